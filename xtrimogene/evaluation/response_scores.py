"""What predictions of drug response are worth, and how sure that is: metrics with weights of rows.

Intervals: what the split leaves out is drawn with replacement (drugs, pairs, lines), never rows; a row with two
left-out drugs counts as often as both were drawn, multiplied. Letters: N rows; R resamples; S seeds; U units.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Float64, Int, Int64
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    roc_auc_score,
)

from xtrimogene.evaluation.bootstrap import Interval, summarize, unit_weights

Metric = Literal["auroc", "pearson", "rmse"]
Numbers = Float[np.ndarray, " N"]


def label_scores(labels: Numbers, probability: Numbers) -> dict[str, float]:
    """Return AUROC, AUPRC and, at a probability of 1/2, accuracy, balanced accuracy, Cohen's kappa and F1."""
    said = (probability >= 0.5).astype(int)
    true = labels.astype(int)
    return {
        "auroc": float(roc_auc_score(true, probability)),
        "auprc": float(average_precision_score(true, probability)),
        "accuracy": float(accuracy_score(true, said)),
        "balanced_accuracy": float(balanced_accuracy_score(true, said)),
        "kappa": float(cohen_kappa_score(true, said)),
        "f1": float(f1_score(true, said, zero_division=0)),
    }


def value_scores(values: Numbers, predicted: Numbers) -> dict[str, float]:
    """Return the root mean squared error and Pearson's correlation."""
    return {
        name: float(weighted(name, np.ones((1, len(values))), values, predicted)[0]) for name in ("rmse", "pearson")
    }


def weighted(
    metric: Metric, weights: Float64[np.ndarray, "R N"], true: Numbers, predicted: Numbers
) -> Float64[np.ndarray, " R"]:
    """Return a metric of the same predictions under each weighting of their rows."""
    assert metric in get_args(Metric)
    if metric == "auroc":
        return _auroc(weights, true, predicted)
    true, predicted = true.astype(np.float64), predicted.astype(np.float64)
    total = weights.sum(axis=1)
    if metric == "rmse":
        return np.asarray(np.sqrt(weights @ (true - predicted) ** 2 / total))
    total = np.where(total > 0, total, np.nan)  # a resample without any of the rows says nothing
    t, p = true - true.mean(), predicted - predicted.mean()
    mean_t, mean_p = weights @ t / total, weights @ p / total
    both = weights @ (t * p) / total - mean_t * mean_p
    spread = (weights @ t**2 / total - mean_t**2) * (weights @ p**2 / total - mean_p**2)
    return np.asarray(both / np.sqrt(np.maximum(spread, 1e-300)))


def row_weights(drawn: Float64[np.ndarray, "R U"], units: Int[np.ndarray, "N _"]) -> Float64[np.ndarray, "R N"]:
    """Return how often each row counts: as often as its unit was drawn, and the product for a row of two (-1: none)."""
    padded = np.concatenate([drawn, np.ones((len(drawn), 1))], axis=1)
    return np.asarray(padded[:, units].prod(axis=2))


def resampled(
    metric: Metric,
    true: Sequence[Numbers],
    predicted: Sequence[Numbers],
    units: Sequence[Int64[np.ndarray, "N _"]],
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Float64[np.ndarray, "R S"]:
    """Return the metric of each seed's predictions in each resample of units, which seeds share; row 0 is as tested."""
    num_units = 1 + max(int(one.max()) for one in units)
    drawn = unit_weights(num_units, num_resamples, seed)
    columns = []
    for truth, prediction, own in zip(true, predicted, units, strict=True):
        parts = [
            weighted(metric, row_weights(drawn[first : first + 100], own), truth, prediction)
            for first in range(0, len(drawn), 100)
        ]
        columns.append(np.concatenate(parts))
    return np.stack(columns, axis=1)


def interval(scores: Float64[np.ndarray, "R S"]) -> Interval:
    """Return the mean over seeds and its interval over units and seeds; resamples without a metric are left out."""
    kept = np.isfinite(scores).all(axis=1)
    kept[0] = True
    return summarize(scores[kept])


def _auroc(weights: Float64[np.ndarray, "R N"], true: Numbers, predicted: Numbers) -> Float64[np.ndarray, " R"]:
    """Return the share of pairs (positive, negative) in the right order; ties count half."""
    place = np.unique(predicted, return_inverse=True)[1]
    order = np.argsort(place, kind="stable")
    first = np.concatenate([[0], np.flatnonzero(np.diff(place[order])) + 1])
    positive = np.add.reduceat(weights[:, order] * (true[order] > 0), first, axis=1)
    negative = np.add.reduceat(weights[:, order] * (true[order] <= 0), first, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    with np.errstate(invalid="ignore"):
        share = (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
    return np.asarray(share)
