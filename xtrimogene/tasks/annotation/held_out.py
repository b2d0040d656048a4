"""What labels and probabilities are worth: reference cells, seen by folds that had not learned from them.

Letters: N held-out cells; G genes of the model; P width of the embedding; L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_matrix
from scipy.special import softmax

from xtrimogene.evaluation.bootstrap import Interval
from xtrimogene.evaluation.comparison import Method, Predictions, judge, predict_baselines
from xtrimogene.evaluation.metrics import calibration_error
from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.tasks import Task
from xtrimogene.tasks.annotation.calibration import fit_temperature, label_sets
from xtrimogene.tasks.annotation.latent_expression import LatentExpression
from xtrimogene.tasks.annotation.learned import AnnotationMethod, Learned
from xtrimogene.tasks.annotation.novelty import Strangeness
from xtrimogene.tasks.annotation.tuned import Tuned

OURS = Method(features="this annotator", classifier=None)
ALIGNED = Method(features="HVG + PCA aligned", classifier="linear")
ERROR_RATE, NOVELTY_RATE = 0.1, 0.05  # at which the figures are given
LEAST_CELLS = 30  # of which a difference may be judged


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldOutCells:
    """What each cell's own fold says of it; a label that it had not learned has the score -inf.

    ``learned``: the fold had learned the cell's own label, and the cell counts (`draw_cells`). ``by_expression`` are
    the labels that HVG + PCA gives, aligned as ours: a baseline.
    """

    names: Shaped[np.ndarray, " L"]
    label: Int[np.ndarray, " N"]
    fold: Int[np.ndarray, " N"]
    scores: Float[np.ndarray, "N L"]
    distances: Float[np.ndarray, "N 2"]
    by_expression: Int[np.ndarray, " N"]
    learned: Bool[np.ndarray, " N"]

    @classmethod
    def of(
        cls,
        method: AnnotationMethod,
        embedding: Float[np.ndarray, "N P"],
        counts: csr_matrix,
        labels: Shaped[np.ndarray, " N"],
        *,
        read: Bool[np.ndarray, " G"],
        counted: Bool[np.ndarray, " N"],
        splits: Sequence[Split],
        align: bool = True,
        expression: LatentExpression | None = None,
        tuned: Tuned | None = None,
        seed: int = 0,
    ) -> "HeldOutCells":
        """Fit once for each split, which together test every cell once; what one tests is aligned as a query is.

        ``tuned``, for "finetune", has an embedding for each split.
        """
        names, label = np.unique(labels, return_inverse=True)
        number = len(labels)
        scores, distances = np.full((number, len(names)), -np.inf), np.empty((number, 2))
        fold, by_expression = np.empty(number, dtype=np.int64), np.empty(number, dtype=np.int64)
        learned = np.zeros(number, dtype=bool)
        for place, split in enumerate(splits):
            train, test = split.train, split.test
            vectors = embedding if tuned is None else tuned.folds[place]
            partial = Learned.fit(
                method,
                vectors[train],
                counts[train],
                labels[train],
                read=read,
                names=names,
                expression=expression,
                seed=seed,
            )
            cells = partial.view(vectors[test], counts[test], read)
            if align:
                cells, _ = partial.align(cells)
            scores[np.ix_(test, np.searchsorted(names, partial.labels))] = partial.scores(cells)
            best = partial.by_expression.scores(cells.components).argmax(axis=1)
            by_expression[test] = np.searchsorted(names, partial.by_expression.labels)[best]
            distances[test], fold[test] = partial.distances(cells), place
            learned[test] = np.isin(labels[test], labels[train]) & counted[test]
        return cls(
            names=names,
            label=label,
            fold=fold,
            scores=scores,
            distances=distances,
            by_expression=by_expression,
            learned=learned,
        )

    @property
    def temperature(self) -> float:
        return fit_temperature(self.scores[self.learned], self.label[self.learned])

    @property
    def of_right_labels(self) -> Float[np.ndarray, " N"]:
        """The probability of each learned cell's own label, at the temperature."""
        return _of_right(self.scores[self.learned], self.label[self.learned], self.temperature)

    @property
    def strangeness(self) -> Strangeness:
        return Strangeness.fit(self.distances[self.learned])

    def figures(self) -> dict[str, float]:
        """Measure the cells whose label was learned, each fold by what the other folds calibrate.

        "calibration_error" (before: without a temperature); of the sets of labels at an error rate of 10 %, how many
        hold the right label, and how many labels they hold; how many cells are called unknown at a novelty rate of 5 %.
        """
        best, right = self.scores.argmax(axis=1), np.zeros(len(self.label))
        before, after = np.zeros(len(self.label)), np.zeros(len(self.label))
        covered, possible, unknown = (np.zeros(len(self.label)) for _ in range(3))
        for number in np.unique(self.fold[self.learned]):
            here, others = self.learned & (self.fold == number), self.learned & (self.fold != number)
            temperature = fit_temperature(self.scores[others], self.label[others])
            probabilities = softmax(self.scores[here] / temperature, axis=1)
            sets = label_sets(
                probabilities, _of_right(self.scores[others], self.label[others], temperature), ERROR_RATE
            )
            before[here] = softmax(self.scores[here], axis=1).max(axis=1)
            after[here], right[here] = probabilities.max(axis=1), best[here] == self.label[here]
            covered[here], possible[here] = sets[np.arange(len(sets)), self.label[here]], sets.sum(axis=1)
            unknown[here] = Strangeness.fit(self.distances[others]).share(self.distances[here]) <= NOVELTY_RATE
        known = self.learned
        return {
            "calibration_error_before": calibration_error(before[known], right[known] > 0),
            "calibration_error": calibration_error(after[known], right[known] > 0),
            "coverage": float(covered[known].mean()),
            "labels_possible": float(possible[known].mean()),
            "unknown": float(unknown[known].mean()),
        }

    def beside_baselines(
        self, counts: csr_matrix, read: Bool[np.ndarray, " G"], splits: Sequence[Split], *, baselines: bool = True
    ) -> dict[str, Any]:
        """Return macro-F1 and accuracy of all cells, and, if asked for, those of the baselines in the same folds.

        "label_precision" and "label_recall" are those of each of the "labels".

        "baselines" are in order, the best first; "difference" is our macro-F1 minus theirs, with its interval, which is
        that of a bootstrap over cells.
        """
        task = Task(
            name="reference",
            counts=counts,
            genes=read,
            labels=self.names[self.label],
            groups=self.fold.astype(str),
            studies=np.full(len(self.label), "reference"),
            rows=np.arange(len(self.label)),
            splits=(tuple(splits),),
            mixing=False,
        )
        others: dict[Method, Predictions] = {}
        if baselines and len(self.label) >= LEAST_CELLS:
            others = {ALIGNED: (self.names[self.by_expression],), **predict_baselines(task)}
        predictions = {OURS: (self.names[self.scores.argmax(axis=1)],), **others}
        result = judge(task, predictions, [(OURS, other) for other in others])
        of = {score.method: score for score in result.scores}
        ours = of[OURS]
        figures: dict[str, Any] = {
            **_interval("macro_f1", ours.macro_f1),
            "accuracy": ours.accuracy,
            "labels": [one.label for one in ours.per_class],
            "label_precision": [one.precision for one in ours.per_class],
            "label_recall": [one.recall for one in ours.per_class],
        }
        if not others:
            return figures
        met = sorted(result.differences, key=lambda one: -of[one.baseline].macro_f1.mean)
        differences = [_interval("difference", one.macro_f1) for one in met]
        return figures | {
            "baselines": [str(one.baseline) for one in met],
            "baseline_macro_f1": [of[one.baseline].macro_f1.mean for one in met],
            **{name: [one[name] for one in differences] for name in differences[0]},
            "verdict": [one.verdict for one in met],
        }


def _of_right(
    scores: Float[np.ndarray, "N L"], label: Int[np.ndarray, " N"], temperature: float
) -> Float[np.ndarray, " N"]:
    return np.asarray(softmax(scores / temperature, axis=1)[np.arange(len(label)), label])


def _interval(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
