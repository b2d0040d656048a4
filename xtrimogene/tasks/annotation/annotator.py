"""An annotator: what was learned from labelled cells, and what it says of others.

Letters: A reference cells; B cells asked for; P width of the embedding; L labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, assert_never, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import softmax

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.classifiers import LinearClassifier, NeighborClassifier, variance_of
from xtrimogene.evaluation.metrics import accuracy, calibration_error, macro_f1
from xtrimogene.evaluation.splits import Split, folds_by_cell, folds_by_group
from xtrimogene.tasks.annotation.calibration import fit_temperature, label_sets
from xtrimogene.tasks.annotation.novelty import as_far, distances

AnnotationMethod = Literal["linear", "knn"]
Classifier = LinearClassifier | NeighborClassifier
NUM_FOLDS = 5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Annotation:
    """What is said of each cell; one without an embedding (a NaN row) has no label, no confidence, and is not novel.

    ``possible`` are the best label and those that may be the right one, at the error rate asked for; ``novel``: the
    cell lies farther from the reference than all but the novelty rate of its own cells lie from the others.
    """

    labels: tuple[str, ...]
    best: Int[np.ndarray, " B"]  # -1: none
    confidence: Float[np.ndarray, " B"]
    possible: Bool[np.ndarray, "B L"]
    novel: Bool[np.ndarray, " B"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Annotator:
    """Fitted by `fit`; what is held out are reference cells, in the folds that had not learned from them.

    Of cells whose label their fold had learned: ``of_right_labels`` is the probability of that label,
    ``held_out_distances`` how far they lie from the others. ``held_out`` is what labels and probabilities are worth:
    "macro_f1" and "accuracy" of all held-out cells, "calibration_error" of those whose label was learned, and
    "calibration_error_before" the temperature, which is fitted on the same cells.
    """

    method: AnnotationMethod
    classifier: Classifier
    reference: Float[np.ndarray, "A P"]
    temperature: float
    of_right_labels: Float[np.ndarray, " N"]
    held_out_distances: Float[np.ndarray, " N"]
    held_out: Mapping[str, float]

    @classmethod
    def fit(
        cls,
        embedding: Float[np.ndarray, "A P"],
        labels: Shaped[np.ndarray, " A"],
        *,
        method: AnnotationMethod = "linear",
        groups: Shaped[np.ndarray, " A"] | None = None,
        seed: int = 0,
    ) -> "Annotator":
        """Fit on all cells that have an embedding; calibrate in five folds of them.

        Parameters
        ----------
        groups
            Donor, study or batch of each cell: whole groups are held out, so that confidence is that in a new one.
            Without it cells are, which is confidence in more cells of the same donors.

        Raises
        ------
        ConfigError
            As `check_labels` and `check_options`.
        """
        check_options(method=method)
        usable = np.isfinite(embedding).all(axis=1)
        embedding, labels = embedding[usable], labels[usable]
        groups = None if groups is None else groups[usable]
        check_labels(labels, groups)
        classifier = _fit(method, embedding, labels)
        label = np.searchsorted(classifier.labels, labels)
        scores = np.full((len(labels), len(classifier.labels)), -np.inf)
        far, learned = np.empty(len(labels)), np.zeros(len(labels), dtype=bool)
        for split in _folds(labels, groups, seed):
            partial = _fit(method, embedding[split.train], labels[split.train], names=classifier.labels)
            columns = np.searchsorted(classifier.labels, partial.labels)
            scores[np.ix_(split.test, columns)] = partial.scores(embedding[split.test])
            far[split.test] = distances(embedding[split.train], embedding[split.test])
            learned[split.test] = np.isin(labels[split.test], labels[split.train])
        temperature = fit_temperature(scores[learned], label[learned])
        before, after = (softmax(scores[learned] / divisor, axis=1) for divisor in (1.0, temperature))
        best = scores.argmax(axis=1)
        hits = best[learned] == label[learned]
        return cls(
            method=method,
            classifier=classifier,
            reference=embedding,
            temperature=temperature,
            of_right_labels=after[np.arange(len(after)), label[learned]],
            held_out_distances=far[learned],
            held_out={
                "macro_f1": macro_f1(labels, classifier.labels[best]),
                "accuracy": accuracy(label, best),
                "calibration_error_before": calibration_error(before.max(axis=1), hits),
                "calibration_error": calibration_error(after.max(axis=1), hits),
            },
        )

    def annotate(
        self, embedding: Float[np.ndarray, "B P"], *, error_rate: float = 0.1, novelty_rate: float = 0.05
    ) -> Annotation:
        """Say what each cell is; no cell's answer depends on the others.

        Parameters
        ----------
        error_rate
            The share of cells, of those like the reference's, whose right label may be missing from ``possible``.
        novelty_rate
            The share of them that may be called novel.
        """
        check_options(error_rate=error_rate, novelty_rate=novelty_rate)
        known = np.isfinite(embedding).all(axis=1)
        num_labels = len(self.classifier.labels)
        best, confidence = np.full(len(embedding), -1), np.full(len(embedding), np.nan)
        possible, novel = np.zeros((len(embedding), num_labels), dtype=bool), np.zeros(len(embedding), dtype=bool)
        if known.any():
            probabilities = softmax(self.classifier.scores(embedding[known]) / self.temperature, axis=1)  # (b, L)
            best[known], confidence[known] = probabilities.argmax(axis=1), probabilities.max(axis=1)
            possible[known] = label_sets(probabilities, self.of_right_labels, error_rate)
            novel[known] = as_far(self.held_out_distances, distances(self.reference, embedding[known])) <= novelty_rate
        labels = tuple(self.classifier.labels.tolist())
        return Annotation(labels=labels, best=best, confidence=confidence, possible=possible, novel=novel)


def check_options(*, method: str = "linear", error_rate: float = 0.1, novelty_rate: float = 0.05) -> None:
    """Refuse what `Annotator` would, before long work.

    Raises
    ------
    ConfigError
        No such method, or a rate that is none.
    """
    if method not in get_args(AnnotationMethod):
        raise ConfigError(f"method={method!r} is not one of {', '.join(get_args(AnnotationMethod))}.")
    for name, rate in (("error_rate", error_rate), ("novelty_rate", novelty_rate)):
        if not 0 < rate < 1:
            raise ConfigError(f"{name}={rate} must lie between 0 and 1; 0.1 is usual.")


def check_labels(labels: Shaped[np.ndarray, " A"], groups: Shaped[np.ndarray, " A"] | None) -> None:
    """Refuse labels that nothing can be learned from, or not checked, before long work.

    Raises
    ------
    ConfigError
        Fewer than two labels, a single group, or no label that is in two groups (without groups: that two cells have).
    """
    names, numbers = np.unique(labels, return_counts=True)
    if len(names) < 2:
        raise ConfigError(f"the reference has {len(names)} labels in cells that can be read; at least two are needed.")
    if groups is not None:
        if len(np.unique(groups)) < 2:
            raise ConfigError("the reference has one group, and confidence is checked in others; leave group_key out.")
        pairs = np.unique(np.stack([labels.astype(str), groups.astype(str)], axis=1), axis=0)
        _, numbers = np.unique(pairs[:, 0], return_counts=True)
    if numbers.max() < 2:
        raise ConfigError(
            "every label of the reference is in one group, or has one cell; no confidence can be checked. "
            "Leave group_key out, or label more cells."
        )


def _fit(
    method: AnnotationMethod,
    embedding: Float[np.ndarray, "A P"],
    labels: Shaped[np.ndarray, " A"],
    names: Shaped[np.ndarray, " L"] | None = None,
) -> Classifier:
    match method:
        case "linear":
            return LinearClassifier.fit(embedding, labels, variance=variance_of(embedding, "together"))
        case "knn":
            return NeighborClassifier.fit(embedding, labels, names=names)
        case _:
            assert_never(method)


def _folds(labels: Shaped[np.ndarray, " A"], groups: Shaped[np.ndarray, " A"] | None, seed: int) -> tuple[Split, ...]:
    if groups is None:
        return folds_by_cell(labels, num_folds=min(NUM_FOLDS, len(labels)), seed=seed)
    num_folds = min(NUM_FOLDS, len(np.unique(groups)))
    return folds_by_group(groups, labels, grouping="group", num_folds=num_folds, seed=seed)
