"""Scores by hand and against scikit-learn, and intervals by what was left out."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from xtrimogene.evaluation.response_scores import (
    interval,
    label_scores,
    resampled,
    row_weights,
    value_scores,
    weighted,
)


def test_scores_by_hand() -> None:
    found = label_scores(np.array([1.0, 1, 0, 0]), np.array([0.9, 0.4, 0.6, 0.1]))
    # of four pairs (1, 0) three are in order; two of four are right, one of each kind
    assert found == pytest.approx(
        {"auroc": 0.75, "auprc": (1 + 2 / 3) / 2, "accuracy": 0.5, "balanced_accuracy": 0.5, "kappa": 0.0, "f1": 0.5}
    )
    assert value_scores(np.array([0.0, 1, 2]), np.array([1.0, 2, 3])) == pytest.approx({"rmse": 1, "pearson": 1})


@pytest.mark.parametrize("metric", ["auroc", "pearson", "rmse"])
def test_a_weight_is_so_many_copies_of_a_row(metric: str) -> None:
    random = np.random.default_rng(0)
    true, said = random.integers(0, 2, 40).astype(float), random.integers(0, 9, 40) / 9  # with ties
    weights = random.integers(0, 4, (5, 40)).astype(float)
    found = weighted(metric, weights, true, said)
    for row, one in zip(weights.astype(int), found, strict=True):
        t, s = np.repeat(true, row), np.repeat(said, row)
        wanted = {
            "auroc": lambda t=t, s=s: roc_auc_score(t, s),
            "pearson": lambda t=t, s=s: np.corrcoef(t, s)[0, 1],
            "rmse": lambda t=t, s=s: np.sqrt(np.mean((t - s) ** 2)),
        }[metric]()
        assert one == pytest.approx(wanted)


def test_a_row_of_two_left_out_drugs_counts_as_often_as_both_were_drawn() -> None:
    drawn, units = np.array([[2.0, 0.0, 3.0]]), np.array([[0, -1], [2, 0], [1, 2]])
    np.testing.assert_array_equal(row_weights(drawn, units), [[2, 6, 0]])


def test_rows_of_a_unit_go_together() -> None:
    """Ten copies of each of 30 units are no 300 units: the interval is that of the 30."""
    random = np.random.default_rng(0)
    true = np.arange(30) % 2.0
    said = true + random.normal(size=30)
    units = np.arange(30)
    few = interval(resampled("auroc", [true], [said], [units[:, None]]))
    copied = np.repeat(units, 10)
    many = interval(resampled("auroc", [true[copied]], [said[copied]], [copied[:, None]]))
    assert (few.low, few.high) == pytest.approx((many.low, many.high))
    loose = interval(resampled("auroc", [true[copied]], [said[copied]], [np.arange(300)[:, None]]))
    assert loose.high - loose.low < 0.6 * (few.high - few.low)
