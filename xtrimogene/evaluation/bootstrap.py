"""How sure is a score, and is one method better than another? A paired bootstrap over what was tested and seeds.

Macro-F1: test cells are drawn with replacement inside each true label, so every label keeps its number of cells and
macro-F1 stays defined; the same draw serves every prediction (paired). The seeds are drawn with replacement too. Cells
with the same truth and the same predictions are exchangeable, so only the numbers of such patterns are drawn: thousands
of resamples take milliseconds.

The interval speaks of these donors: cells of one donor are drawn as if independent, so it does not cover the choice
of donors. A label with a single test cell adds no spread.

A mean of scores: the units that each have one (perturbations, drug pairs, genes) are drawn, and the seeds.
Letters: N units; S seeds; R resamples, the first of which is the test set as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Int, Shaped

from xtrimogene.errors import ConfigError

Verdict = Literal["beats", "ties", "loses"]
Labels = Shaped[np.ndarray, " N"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """The mean over seeds and its bootstrap interval."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """For a difference: "beats" or "loses" where the interval excludes 0, else "ties"."""
        if self.low > 0:
            return "beats"
        return "loses" if self.high < 0 else "ties"


def macro_f1_interval(
    truth: Labels, predictions: Sequence[Labels], *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Macro-F1 of one method; ``predictions`` holds one prediction of the same test cells for each seed."""
    weights, codes = _resamples(truth, predictions, num_resamples, seed)
    return summarize(
        np.stack([_macro_f1(weights, codes[0], code) for code in codes[1:]], axis=1), confidence=confidence, seed=seed
    )


def macro_f1_difference(
    truth: Labels,
    ours: Sequence[Labels],
    theirs: Sequence[Labels],
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Macro-F1 of our predictions minus that of theirs, on the same cells, seed by seed."""
    if len(ours) != len(theirs):
        raise ConfigError(
            f"the predictions come in {len(ours)} and {len(theirs)} seeds; give one of each method for every seed."
        )
    weights, codes = _resamples(truth, [*ours, *theirs], num_resamples, seed)
    pairs = zip(codes[1 : 1 + len(ours)], codes[1 + len(ours) :], strict=True)
    differences = [_macro_f1(weights, codes[0], our) - _macro_f1(weights, codes[0], their) for our, their in pairs]
    return summarize(np.stack(differences, axis=1), confidence=confidence, seed=seed)


def mean_interval(
    scores: Float[np.ndarray, "S N"], *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Mean of one score a unit and seed, and its interval over units and seeds."""
    weights = unit_weights(scores.shape[1], num_resamples, seed)
    return summarize(weights @ scores.T / scores.shape[1], confidence=confidence, seed=seed)


def mean_difference(
    ours: Float[np.ndarray, "S N"],
    theirs: Float[np.ndarray, "S N"],
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of our scores minus theirs, of the same units and seeds."""
    return mean_interval(ours - theirs, num_resamples=num_resamples, confidence=confidence, seed=seed)


def unit_weights(num_units: int, num_resamples: int, seed: int) -> Float64[np.ndarray, "R N"]:
    """Draw how often each unit is in each resample; row 0 is the test set as it is.

    Raises
    ------
    ConfigError
        Fewer than two units: there is nothing to draw.
    """
    if num_units < 2:
        raise ConfigError(f"a bootstrap needs at least two things that were tested, not {num_units}.")
    drawn = np.random.default_rng(seed).multinomial(num_units, [1 / num_units] * num_units, size=num_resamples)
    return np.concatenate([np.ones((1, num_units)), drawn])


def _resamples(
    truth: Labels, predictions: Sequence[Labels], num_resamples: int, seed: int
) -> tuple[Int[np.ndarray, "R U"], Int[np.ndarray, "V U"]]:
    """Draw how often each of U patterns (truth, predictions) occurs; row 0 is the test set as it is."""
    if not len(truth) or not predictions or any(len(prediction) != len(truth) for prediction in predictions):
        raise ConfigError("a bootstrap needs at least one test cell, one seed, and a prediction of every test cell.")
    _, codes = np.unique(np.concatenate([truth, *predictions]), return_inverse=True)
    patterns, occurrences = np.unique(codes.reshape(-1, len(truth)), axis=1, return_counts=True)
    generator = np.random.default_rng(seed)
    weights = np.empty((1 + num_resamples, len(occurrences)), dtype=np.int64)
    weights[0] = occurrences
    for label in np.unique(patterns[0]):
        columns = np.flatnonzero(patterns[0] == label)
        num_cells = occurrences[columns].sum()
        weights[1:, columns] = generator.multinomial(num_cells, occurrences[columns] / num_cells, size=num_resamples)
    return weights, patterns


def _macro_f1(
    weights: Int[np.ndarray, "R U"], truth: Int[np.ndarray, " U"], predicted: Int[np.ndarray, " U"]
) -> Float[np.ndarray, " R"]:
    labels = np.unique(truth)
    is_true, is_predicted = truth[:, None] == labels, predicted[:, None] == labels
    counted = weights.astype(np.float64)  # a float product goes through BLAS
    hits = counted @ (is_true & is_predicted).astype(np.float64)  # (R, L)
    both = counted @ (
        is_true.astype(np.float64) + is_predicted
    )  # (R, L), never 0: every label of the truth keeps its cells
    return np.asarray((2 * hits / both).mean(axis=1))


def summarize(scores: Float[np.ndarray, "R S"], *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean over seeds of a score in each resample (`unit_weights`), drawing seeds too, and its interval."""
    num_seeds = scores.shape[1]
    draws = np.random.default_rng((seed, 1)).multinomial(num_seeds, [1 / num_seeds] * num_seeds, size=len(scores) - 1)
    resampled = (scores[1:] * draws).sum(axis=1) / num_seeds
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean=float(scores[0].mean()), low=float(low), high=float(high))
