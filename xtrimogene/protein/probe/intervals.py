"""Bootstrap intervals of a rank correlation over proteins, and of a share of residues that are right.

Proteins are drawn with replacement, the same draw for both sides of a difference. Residues of one protein depend on
each other, so proteins are drawn there too.
Letters: S proteins; R resamples, the first of which is the test set as it is.
"""

import numpy as np
from jaxtyping import Float64, Int64, Real
from scipy.stats import rankdata

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.bootstrap import Interval

Values = Real[np.ndarray, " S"]
Counts = Int64[np.ndarray, " S"]


def spearman(truth: Values, predicted: Values) -> float:
    """Return the correlation of ranks, ties sharing theirs; 0 where one side is constant."""
    return float(_weighted_spearman(truth, predicted, np.ones((1, len(truth)), np.int64))[0])


def spearman_interval(truth: Values, predicted: Values, *, num_resamples: int = 2000, seed: int = 0) -> Interval:
    weights = _resamples(len(truth), num_resamples, seed)
    return _interval(_weighted_spearman(truth, predicted, weights))


def spearman_difference(
    truth: Values, ours: Values, theirs: Values, *, num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Spearman of our predictions minus that of theirs, on the same proteins."""
    weights = _resamples(len(truth), num_resamples, seed)
    return _interval(_weighted_spearman(truth, ours, weights) - _weighted_spearman(truth, theirs, weights))


def accuracy_interval(right: Counts, judged: Counts, *, num_resamples: int = 2000, seed: int = 0) -> Interval:
    """Share of residues that are right; ``right`` and ``judged`` count those of each protein."""
    weights = _resamples(len(right), num_resamples, seed)
    return _interval((weights @ right) / (weights @ judged))


def accuracy_difference(
    ours: Counts, theirs: Counts, judged: Counts, *, num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Our share minus theirs, of the same residues."""
    weights = _resamples(len(ours), num_resamples, seed)
    return _interval((weights @ (ours - theirs)) / (weights @ judged))


def _resamples(num_proteins: int, num_resamples: int, seed: int) -> Int64[np.ndarray, "R S"]:
    if num_proteins < 2:
        raise ConfigError(f"a bootstrap needs at least two proteins, not {num_proteins}.")
    drawn = np.random.default_rng(seed).multinomial(num_proteins, [1 / num_proteins] * num_proteins, num_resamples)
    return np.concatenate([np.ones((1, num_proteins), np.int64), drawn])


def _weighted_spearman(
    truth: Values, predicted: Values, weights: Int64[np.ndarray, "R S"]
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


def _middle_ranks(code: Int64[np.ndarray, " S"], weight: Counts) -> Float64[np.ndarray, " S"]:
    of_value = np.bincount(code, weight)
    return (of_value.cumsum() - (of_value - 1) / 2)[code]


def _interval(scores: Float64[np.ndarray, " R"]) -> Interval:
    low, high = np.quantile(scores[1:], [0.025, 0.975])
    return Interval(mean=float(scores[0]), low=float(low), high=float(high))
