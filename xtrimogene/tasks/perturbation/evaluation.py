"""Predictors beside baselines on the same held-out effects, over seeds, with intervals and a verdict.

Letters: S seeds; U effects that are tested; M genes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from xtrimogene.evaluation.bootstrap import Interval, mean_difference, mean_interval
from xtrimogene.evaluation.splits import Split
from xtrimogene.tasks.perturbation.baselines import training_mean
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.metrics import METRICS, score_effects

Predict = Callable[[Effects, Sequence[str], Float[np.ndarray, "Q M"]], Float[np.ndarray, "Q M"]]
MEAN = "training mean"


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


def compare(trials: Sequence[Trial], methods: Mapping[str, Predict], *, by: str = "perturbation") -> Comparison:
    """Fit each method on the training effects of every split, and score what the split tests.

    Parameters
    ----------
    by
        What a unit of the bootstrap is: "perturbation" or "context"; its effects are averaged.
    """
    found = [_scores(trial, methods, by) for trial in trials]
    units = sorted(set.intersection(*(set(one[MEAN]["mse"]) for one in found)))
    scores = {
        method: {
            metric: np.array([[one[method][metric][unit] for unit in units] for one in found]) for metric in METRICS
        }
        for method in methods
    }
    return Comparison(units=tuple(units), scores=scores)


def _scores(trial: Trial, methods: Mapping[str, Predict], by: str) -> dict[str, dict[str, dict[str, float]]]:
    rows: dict[str, dict[str, dict[str, list[float]]]] = {name: {metric: {} for metric in METRICS} for name in methods}
    for split in trial.splits:
        train, test = trial.effects.rows(split.train), trial.effects.rows(split.test)
        names, control = test.perturbation.tolist(), test.control[test.context]
        center = training_mean(train, names)
        unit = names if by == "perturbation" else [test.context_names[number] for number in test.context.tolist()]
        for method, predict in methods.items():
            predicted = predict(train, names, control)
            for context in np.unique(test.context):
                here = np.flatnonzero(test.context == context)
                same = np.array(trial.effects.context_names)[trial.effects.context] == test.context_names[context]
                scores = score_effects(
                    predicted[here],
                    trial.truth[split.test][here],
                    mean=center[here],
                    variance=train.variance,
                    others=trial.truth[same],
                )
                for metric, values in scores.items():
                    for row, value in zip(here.tolist(), values.tolist(), strict=True):
                        rows[method][metric].setdefault(unit[row], []).append(value)
    return {
        method: {
            metric: {unit: float(np.mean(values)) for unit, values in of.items()} for metric, of in metrics.items()
        }
        for method, metrics in rows.items()
    }


def _plain(interval: Interval) -> list[float]:
    return [interval.mean, interval.low, interval.high]
