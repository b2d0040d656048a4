"""Scores worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.tasks.perturbation.metrics import (
    METRICS,
    centroid_accuracy,
    correlation,
    energy_distance,
    score_effects,
    top_genes,
)


def test_scores_of_one_effect() -> None:
    truth, predicted = np.array([[2.0, 0.0, -2.0, 0.0]]), np.array([[1.0, 0.0, -1.0, 1.0]])
    others = np.array([[2.0, 0.0, -2.0, 0.0], [1.0, 0.0, -1.0, 1.5], [-5.0, 0.0, 0.0, 0.0]])
    mean = np.array([[1.0, 0.0, -1.0, 0.0]])
    scores = score_effects(predicted, truth, mean=mean, variance=np.ones(4), others=others)
    assert set(scores) == set(METRICS)
    assert scores["mse"] == pytest.approx(3 / 4)
    assert scores["pearson"] == pytest.approx(4 / np.sqrt(8 * 2.75))  # centred: (2, 0, -2, 0), (.75, -.25, -1.25, .75)
    # beyond the mean: (0, 0, 0, 1) and (1, 0, -1, 0), which share nothing
    assert scores["centroid_pearson"] == pytest.approx(0)
    assert scores["centroid_accuracy"] == pytest.approx(1 / 2)  # the second lies nearer, the third farther
    assert scores["direction"] == pytest.approx((1 + 0.5 + 1 + 0.5) / 4)


def test_the_top_genes_change_most_for_their_variance() -> None:
    change, variance = np.array([3.0, -2.0, 1.0, 5.0]), np.array([9.0, 1.0, 0.01, 0.0])
    assert top_genes(change, variance, 2).tolist() == [2, 1]  # 10, 2 and 1 standard deviations; the last never varies
    scores = score_effects(
        np.zeros((1, 30)), np.r_[np.full(20, 2.0), np.zeros(10)][None], mean=np.zeros((1, 30)),
        variance=np.ones(30), others=np.zeros((1, 30)),
    )  # fmt: skip
    assert scores["mse_top20"] == pytest.approx(4) and scores["mse"] == pytest.approx(80 / 30)
    assert scores["pearson"] == 0 and scores["direction"] == pytest.approx(0.5)


def test_the_training_mean_itself_correlates_with_nothing_beyond_it() -> None:
    random = np.random.default_rng(0)
    mean, truth = random.normal(size=(1, 50)), random.normal(size=(3, 50))
    scores = score_effects(np.repeat(mean, 3, axis=0), truth, mean=mean, variance=np.ones(50), others=truth)
    assert (scores["centroid_pearson"] == 0).all()
    perfect = score_effects(truth, truth, mean=mean, variance=np.ones(50), others=truth)
    assert perfect["centroid_pearson"] == pytest.approx(1) and (perfect["centroid_accuracy"] == 1).all()
    assert (perfect["mse"] == 0).all() and (perfect["direction"] == 1).all()


def test_an_only_perturbation_has_no_centroid_accuracy() -> None:
    assert np.isnan(centroid_accuracy(np.ones((2, 3)), np.ones((2, 3)), np.ones((1, 3)))).all()


def test_a_constant_correlates_with_nothing() -> None:
    assert correlation(np.full(5, 0.1), np.arange(5.0)) == 0
    assert correlation(np.arange(5.0), 3 * np.arange(5.0) + 1) == pytest.approx(1)


def test_energy_distance_of_points_on_a_line() -> None:
    assert energy_distance(np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]])) == pytest.approx(2 * 1.5 - 2 - 2)
    random = np.random.default_rng(0)
    same, moved = (random.normal(size=(400, 3)) + shift for shift in (0, 2))
    assert abs(energy_distance(same, random.normal(size=(400, 3)))) < 0.1 < energy_distance(same, moved)


@given(st.integers(0, 10_000))
def test_shares_are_shares(seed: int) -> None:
    random = np.random.default_rng(seed)
    predicted, truth = random.normal(size=(2, 2, 25))
    scores = score_effects(predicted, truth, mean=truth.mean(axis=0)[None], variance=np.ones(25), others=truth)
    for name in ("centroid_accuracy", "direction"):
        assert ((scores[name] >= 0) & (scores[name] <= 1)).all()
    for name in ("pearson", "pearson_top20", "centroid_pearson"):
        assert (np.abs(scores[name]) <= 1 + 1e-12).all()
