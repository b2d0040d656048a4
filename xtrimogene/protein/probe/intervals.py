"""Bootstrap intervals of a rank correlation over proteins, and of a share of residues that are right.

Proteins are drawn with replacement, the same draw for both sides of a difference. Residues of one protein depend on
each other, so proteins are drawn there too.
Letters: S proteins; R resamples, the first of which is the test set as it is.
"""

import numpy as np
from jaxtyping import Float64, Int64, Real
from scipy.stats import rankdata

from xtrimogene.evaluation.bootstrap import Interval, summarize, unit_weights

Values = Real[np.ndarray, " S"]
Counts = Int64[np.ndarray, " S"]


def spearman(truth: Values, predicted: Values) -> float:
    """Return the correlation of ranks, ties sharing theirs; 0 where one side is constant."""
    return float(_weighted_spearman(truth, predicted, np.ones((1, len(truth))))[0])


def spearman_interval(truth: Values, predicted: Values, *, num_resamples: int = 2000, seed: int = 0) -> Interval:
    weights = unit_weights(len(truth), num_resamples, seed)
    return summarize(_weighted_spearman(truth, predicted, weights)[:, None])


def spearman_difference(
    truth: Values, ours: Values, theirs: Values, *, num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Spearman of our predictions minus that of theirs, on the same proteins."""
    weights = unit_weights(len(truth), num_resamples, seed)
    return summarize((_weighted_spearman(truth, ours, weights) - _weighted_spearman(truth, theirs, weights))[:, None])


def accuracy_interval(right: Counts, judged: Counts, *, num_resamples: int = 2000, seed: int = 0) -> Interval:
    """Share of residues that are right; ``right`` and ``judged`` count those of each protein."""
    weights = unit_weights(len(right), num_resamples, seed)
    return summarize(((weights @ right) / (weights @ judged))[:, None])


def accuracy_difference(
    ours: Counts, theirs: Counts, judged: Counts, *, num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Our share minus theirs, of the same residues."""
    weights = unit_weights(len(ours), num_resamples, seed)
    return summarize(((weights @ (ours - theirs)) / (weights @ judged))[:, None])


def _weighted_spearman(
    truth: Values, predicted: Values, weights: Float64[np.ndarray, "R S"]
) -> Float64[np.ndarray, " R"]:
    """Each protein counts as often as it was drawn."""
    codes = [rankdata(values, "dense") - 1 for values in (truth, predicted)]
    out = np.zeros(len(weights))
    for resample, weight in enumerate(weights):
        x, y = (_middle_ranks(code, weight) for code in codes)
        x, y = x - np.average(x, weights=weight), y - np.average(y, weights=weight)
        spread = np.sqrt((weight * x * x).sum() * (weight * y * y).sum())
        out[resample] = (weight * x * y).sum() / spread if spread > 0 else 0.0
    return out


def _middle_ranks(code: Int64[np.ndarray, " S"], weight: Float64[np.ndarray, " S"]) -> Float64[np.ndarray, " S"]:
    of_value = np.bincount(code, weight)
    return (of_value.cumsum() - (of_value - 1) / 2)[code]
