"""What a study of annotation found: scores beside baselines, and what is said beside the labels.

Letters: T tested cells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from xtrimogene.evaluation.bootstrap import Verdict
from xtrimogene.evaluation.comparison import Difference, Method, MethodScore, TaskResult, judge
from xtrimogene.evaluation.metrics import CalibrationBin, calibration_bins, calibration_error
from xtrimogene.evaluation.study import AnnotationStudy
from xtrimogene.evaluation.tasks import Task
from xtrimogene.evaluation.trials import Sureness, Trials

VERBS: Mapping[Verdict, str] = {"beats": "beats", "ties": "ties with", "loses": "loses to"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Worth:
    """Means over seeds, of the tested cells whose label was learned from.

    ``calibration_error``: of confidence (15 bins); ``coverage``: how many sets of possible labels hold the right one,
    and ``labels_possible`` how many labels they hold; ``unknown``: how many cells are called so.
    """

    calibration_error: float
    coverage: float
    labels_possible: float
    unknown: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AnnotationResult:
    """``ours`` is judged; ``best_baseline`` has the largest macro-F1 on the very test cells, which favours it.

    ``predicted`` are the labels that ours gives under the first seed. ``confidence`` and ``right`` are of the tested
    cells whose label was learned from, all seeds together. ``not_run``: methods and why.
    """

    study: AnnotationStudy
    facts: Mapping[str, Any]
    scores: TaskResult
    ours: Method
    best_baseline: Method
    truth: Shaped[np.ndarray, " T"]
    predicted: Shaped[np.ndarray, " T"]
    confidence: Float[np.ndarray, " K"]
    right: Bool[np.ndarray, " K"]
    worth: Mapping[Method, Worth]
    chosen: tuple[Mapping[str, Any], ...]
    not_run: Mapping[str, str]

    @property
    def difference(self) -> Difference:
        """Ours minus the best baseline."""
        (found,) = (one for one in self.scores.differences if one.baseline == self.best_baseline)
        return found

    @property
    def verdict(self) -> str:
        interval = self.difference.macro_f1
        return (
            f"{self.ours} {VERBS[interval.verdict]} {self.best_baseline} by {interval.mean:+.3f} "
            f"[{interval.low:+.3f}, {interval.high:+.3f}]"
        )

    @property
    def calibration(self) -> tuple[CalibrationBin, ...]:
        return calibration_bins(self.confidence, self.right)

    def score_of(self, method: Method) -> MethodScore:
        (found,) = (score for score in self.scores.scores if score.method == method)
        return found

    def confusion(self) -> tuple[tuple[str, ...], tuple[str, ...], list[list[int]]]:
        """Return true labels, labels given, and how many cells have each pair."""
        true, row = np.unique(self.truth, return_inverse=True)
        given, column = np.unique(np.where(self.predicted == "", "no label", self.predicted), return_inverse=True)
        counts = np.zeros((len(true), len(given)), dtype=np.int64)
        np.add.at(counts, (row, column), 1)
        return tuple(true.tolist()), tuple(given.tolist()), counts.tolist()


def judge_trials(
    study: AnnotationStudy,
    task: Task,
    trials: Trials,
    *,
    ours: Method,
    own: Sequence[str],
    facts: Mapping[str, Any],
    not_run: Mapping[str, str],
) -> AnnotationResult:
    """Score every method, and compare ours with each that is not of our own features."""
    baselines = [method for method in trials.predictions if method.features not in own]
    scores = judge(task, trials.predictions, [(ours, other) for other in baselines])
    means = {score.method: score.macro_f1.mean for score in scores.scores}
    truth = task.labels[task.tested]
    labels, sureness = trials.predictions[ours], trials.sureness[ours]
    told = [learned & np.isfinite(one.confidence) for learned, one in zip(trials.learned, sureness, strict=True)]
    return AnnotationResult(
        study=study,
        facts={**facts, "inner_grouping": list(trials.inner_grouping)},
        scores=scores,
        ours=ours,
        best_baseline=max(baselines, key=lambda method: means[method]),
        truth=truth,
        predicted=labels[0],
        confidence=np.concatenate([one.confidence[which] for one, which in zip(sureness, told, strict=True)]),
        right=np.concatenate([(one == truth)[which] for one, which in zip(labels, told, strict=True)]),
        worth={
            method: _worth(truth, trials.predictions[method], said, trials.learned)
            for method, said in trials.sureness.items()
            if all(learned.any() for learned in trials.learned)
        },
        chosen=trials.chosen,
        not_run=not_run,
    )


def result_as_dict(result: AnnotationResult) -> dict[str, Any]:
    """Everything measured, in types that JSON has; the study's files by their names alone."""
    true, given, counts = result.confusion()
    scores = asdict(result.scores)
    del scores["spaces"]
    return {
        "verdict": result.verdict,
        "ours": asdict(result.ours),
        "best_baseline": asdict(result.best_baseline),
        "difference": asdict(result.difference.macro_f1),
        **scores,
        "confusion": {"true": true, "given": given, "cells": counts},
        "calibration": [asdict(one) for one in result.calibration],
        "worth": {str(method): asdict(worth) for method, worth in result.worth.items()},
        "chosen": [dict(one) for one in result.chosen],
        "not_run": dict(result.not_run),
        "facts": dict(result.facts),
    }


def _worth(
    truth: Shaped[np.ndarray, " T"],
    labels: Sequence[Shaped[np.ndarray, " T"]],
    sureness: Sequence[Sureness],
    learned: Sequence[Bool[np.ndarray, " T"]],
) -> Worth:
    rows = []
    for given, said, known in zip(labels, sureness, learned, strict=True):
        told = known & np.isfinite(said.confidence)
        covered = np.array([label in one for label, one in zip(truth.tolist(), said.possible, strict=True)])
        number = np.array([len(one) for one in said.possible])
        error = calibration_error(said.confidence[told], (given == truth)[told])
        rows.append((error, covered[told].mean(), number[told].mean(), said.unknown[told].mean()))
    error, coverage, possible, unknown = np.mean(rows, axis=0).tolist()
    return Worth(calibration_error=error, coverage=coverage, labels_possible=possible, unknown=unknown)
