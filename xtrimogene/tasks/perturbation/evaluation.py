"""Predictors beside baselines on the same held-out effects, over seeds, with intervals and a verdict.

Letters: S seeds; U effects that are tested; M genes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from xtrimogene.evaluation.bootstrap import Interval, Verdict, mean_difference, mean_interval
from xtrimogene.evaluation.splits import Split
from xtrimogene.tasks.perturbation.baselines import training_mean
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.metrics import METRICS, score_effects

Predict = Callable[[Effects, Sequence[str], Float[np.ndarray, "Q M"]], Float[np.ndarray, "Q M"]]
Each = Callable[[int, str, Effects, Float[np.ndarray, "Q M"]], None]
Answers = Callable[[int, Split, Effects, Effects], Iterator[tuple[str, Float[np.ndarray, "Q M"]]]]
Scores = dict[str, dict[str, dict[str, list[float]]]]
Judged = Verdict | Literal["not tested"]
MEAN, REPEAT = "training mean", "other half of the cells"
LEAST_UNITS = 6  # of fewer, those that happen to agree in sign make any bootstrap interval exclude 0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trial:
    """One seed: effects to learn from, the same changes to judge by, and what is held out."""

    effects: Effects
    truth: Float[np.ndarray, "E M"]
    splits: tuple[Split, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Comparison:
    """``scores[method][metric]``: seeds x units; a unit is a perturbation, or a context where those are held out."""

    units: tuple[str, ...]
    scores: Mapping[str, Mapping[str, Float[np.ndarray, "S U"]]]

    def interval(self, method: str, metric: str) -> Interval:
        return mean_interval(self.scores[method][metric])

    def difference(self, method: str, other: str, metric: str) -> Interval:
        """Return how much better the method is: positive is better, whatever the metric."""
        sign = 1 if METRICS[metric] else -1
        return mean_difference(sign * self.scores[method][metric], sign * self.scores[other][metric])

    def verdict(self, difference: Interval) -> Judged:
        """Return that of a `difference`; with fewer than six units nothing was tested."""
        return difference.verdict if len(self.units) >= LEAST_UNITS else "not tested"

    def as_dict(self) -> dict[str, Any]:
        return {
            "units": list(self.units),
            "scores": {
                method: {
                    metric: _plain(self.interval(method, metric))
                    for metric in scores
                    if np.isfinite(scores[metric]).all()
                }
                for method, scores in self.scores.items()
            },
        }


def compare(
    trials: Sequence[Trial], methods: Mapping[str, Predict], *, by: str = "perturbation", each: Each | None = None
) -> Comparison:
    """Fit each method on the training effects of every split, and score what the split tests.

    Every prediction, of a baseline too, is first cut where a gene would fall below no expression at all: knowing that
    is no merit of one of them.

    Parameters
    ----------
    by
        What a unit of the bootstrap is: "perturbation" or "context"; its effects are averaged.
    each
        Called with the number of the trial, the method, the tested effects and what was predicted of them.
    """

    def answers(number: int, split: Split, train: Effects, test: Effects) -> Iterator[tuple[str, np.ndarray]]:
        for method, predict in methods.items():
            control = test.control[test.context]
            predicted = np.maximum(predict(train, test.perturbation.tolist(), control), -control)
            if each is not None:
                each(number, method, test, predicted)
            yield method, predicted

    return _collect([_scores(trial, number, answers, by) for number, trial in enumerate(trials)])


def ceiling(trials: Sequence[Trial], *, by: str = "perturbation") -> Comparison:
    """Score the effects of one half of the cells as if they had been predicted for the other (`measure_halves`)."""

    def answers(number: int, split: Split, train: Effects, test: Effects) -> Iterator[tuple[str, np.ndarray]]:
        yield REPEAT, test.change

    return _collect([_scores(trial, number, answers, by) for number, trial in enumerate(trials)])


def _collect(found: Sequence[Scores]) -> Comparison:
    methods = list(found[0])
    units = sorted(set.intersection(*(set(one[methods[0]]["mse"]) for one in found)))
    scores = {
        method: {
            metric: np.array([[np.mean(one[method][metric][unit]) for unit in units] for one in found])
            for metric in METRICS
        }
        for method in methods
    }
    return Comparison(units=tuple(units), scores=scores)


def _scores(trial: Trial, number: int, answers: Answers, by: str) -> Scores:
    """Return every score of every tested effect, by method, metric and unit."""
    found: Scores = {}
    context_of = np.array(trial.effects.context_names)[trial.effects.context]
    for split in trial.splits:
        train, test = trial.effects.rows(split.train), trial.effects.rows(split.test)
        center, here = training_mean(train, test.perturbation.tolist()), context_of[split.test]
        units = (test.perturbation if by == "perturbation" else here).tolist()
        for method, predicted in answers(number, split, train, test):
            of_method = found.setdefault(method, {metric: {} for metric in METRICS})
            for context in np.unique(here):
                rows = np.flatnonzero(here == context)
                scores = score_effects(
                    predicted[rows],
                    trial.truth[split.test[rows]],
                    mean=center[rows],
                    variance=train.variance,
                    others=trial.truth[context_of == context],
                )
                for metric, values in scores.items():
                    for row, value in zip(rows.tolist(), values.tolist(), strict=True):
                        of_method[metric].setdefault(units[row], []).append(value)
    return found


def _plain(interval: Interval) -> list[float]:
    return [interval.mean, interval.low, interval.high]
