"""An annotator: what was learned from labelled cells, and what it says of others.

Letters: A reference cells; N of them that count, held out, whose label was learned; B cells asked for; G genes of the
model; L labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_matrix
from scipy.special import softmax

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.splits import Split, any_label_shared, folds_by_cell, folds_by_group
from xtrimogene.tasks.annotation.alignment import common_excess
from xtrimogene.tasks.annotation.calibration import label_sets
from xtrimogene.tasks.annotation.held_out import HeldOutCells
from xtrimogene.tasks.annotation.latent_expression import LatentExpression
from xtrimogene.tasks.annotation.learned import AnnotationMethod, Learned, Views
from xtrimogene.tasks.annotation.novelty import Strangeness
from xtrimogene.tasks.annotation.tuned import Tuned

NUM_FOLDS = 5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Annotation:
    """What is said of each cell; one without an embedding (a NaN row) has no label, no confidence, and is not novel.

    ``possible`` are the best label and those that may be the right one, at the error rate asked for; ``novel``: the
    cell lies farther from the reference than all but the novelty rate of its held-out cells and is none of its own (of
    which the distance in expression says nothing, as its axes were fitted to them), or its label is described by
    markers, and these speak against it; ``elsewhere``: the best of all labels is no candidate. ``cells`` are those with
    an embedding, where they were judged; ``aligned``: they were moved there.
    """

    labels: tuple[str, ...]
    probabilities: Float[np.ndarray, "B L"]
    best: Int[np.ndarray, " B"]  # -1: none
    confidence: Float[np.ndarray, " B"]
    possible: Bool[np.ndarray, "B L"]
    novel: Bool[np.ndarray, " B"]
    elsewhere: Bool[np.ndarray, " B"]
    cells: Views
    aligned: bool


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Annotator:
    """Fitted by `fit`; ``of_right_labels`` and ``strangeness`` are of held-out reference cells, as `HeldOutCells`.

    ``read`` are the model's genes that were read of the reference, and are all that should be read of other cells.

    ``held_out`` is what labels and probabilities are worth there: `HeldOutCells.figures` and ``beside_baselines``.
    """

    method: AnnotationMethod
    align: bool
    read: Bool[np.ndarray, " G"]
    learned: Learned
    temperature: float
    of_right_labels: Float[np.ndarray, " N"]
    strangeness: Strangeness
    held_out: Mapping[str, Any]

    @classmethod
    def fit(
        cls,
        embedding: Float[np.ndarray, "A P"],
        counts: csr_matrix,
        labels: Shaped[np.ndarray, " A"],
        *,
        read: Bool[np.ndarray, " G"],
        counted: Bool[np.ndarray, " A"] | None = None,
        method: AnnotationMethod = "ensemble",
        groups: Shaped[np.ndarray, " A"] | None = None,
        align: bool = True,
        baselines: bool = True,
        expression: LatentExpression | None = None,
        tuned: Tuned | None = None,
        seed: int = 0,
    ) -> "Annotator":
        """Fit on all cells that have an embedding, and calibrate in five folds of them.

        Parameters
        ----------
        counts
            A x G; of the model's genes those ``read`` are used, which should be measured in what is asked for too.
        counted
            The cells that stand for their labels' shares (`draw_cells`); the others teach and do not calibrate.
        groups
            Donor, study or batch of each cell: whole groups are held out, so that confidence is that in a new one.
            Without it cells are, which is confidence in more cells of the same donors.
        align
            Whether cells that are asked for are aligned (`Learned.align`), as then those held out are.
        baselines
            Run them in the same folds.
        expression
            What the embedding says of genes, for "match"; None where it is no latent vector.
        tuned
            For "finetune": ``embedding`` is ``tuned.embedding``, and all cells have one.

        Raises
        ------
        ConfigError
            As `check_labels`, `check_options` and `Learned.fit`; or a fold would learn from a single cell.
        """
        check_options(method=method)
        usable = np.isfinite(embedding).all(axis=1)
        assert tuned is None or usable.all()
        embedding, counts, labels = embedding[usable], counts[usable], labels[usable]
        groups = None if groups is None else groups[usable]
        counted = np.ones(len(labels), dtype=bool) if counted is None else counted[usable]
        check_labels(labels, groups)
        splits = reference_folds(labels, groups, seed=seed) if tuned is None else tuned.splits
        cells = HeldOutCells.of(
            method,
            embedding,
            counts,
            labels,
            read=read,
            counted=counted,
            splits=splits,
            align=align,
            expression=expression,
            tuned=tuned,
            seed=seed,
        )
        return cls(
            method=method,
            align=align,
            read=read,
            learned=Learned.fit(method, embedding, counts, labels, read=read, expression=expression, seed=seed),
            temperature=cells.temperature,
            of_right_labels=cells.of_right_labels,
            strangeness=cells.strangeness,
            held_out=cells.beside_baselines(counts, read, splits, baselines=baselines) | cells.figures(),
        )

    def annotate(
        self,
        cells: Views,
        *,
        error_rate: float = 0.1,
        novelty_rate: float = 0.05,
        candidates: Sequence[str] | None = None,
        described: Mapping[str, Int[np.ndarray, " m"]] | None = None,
    ) -> Annotation:
        """Say what each cell is; with ``align``, by where it lies beside the others, else by itself alone.

        Parameters
        ----------
        cells
            As ``learned.view`` makes them.
        error_rate
            The share of cells, of those like the reference's, whose right label may be missing from ``possible``.
        novelty_rate
            The share of them that may be called novel.
        candidates
            The labels that may be given (default: all): probabilities are those among them.
        described
            More labels, by their marker genes' places, for "match". A cell of one lies far from the reference by right.

        Raises
        ------
        ConfigError
            A rate that is none; `check_candidates`.
        """
        check_options(error_rate=error_rate, novelty_rate=novelty_rate)
        described = described or {}
        names = np.array([*self.learned.labels.tolist(), *described])
        kept = check_candidates(self.learned.labels, candidates, described, self.method)
        known = np.isfinite(cells.embedding).all(axis=1)
        number, num_labels = len(known), len(kept)
        probabilities = np.full((number, num_labels), np.nan)
        best, confidence = np.full(number, -1), np.full(number, np.nan)
        possible, novel = np.zeros((number, num_labels), dtype=bool), np.zeros(number, dtype=bool)
        aligned, elsewhere = False, np.zeros(number, dtype=bool)
        asked = cells.rows(known)
        if known.any():
            taught = self.learned.neighbors.has(asked.embedding)
            if self.align:
                asked, aligned = self.learned.align(asked)
            scores, distances = self.learned.scores(asked), self.learned.distances(asked)
            if aligned:
                near, first = self.learned.near(asked) & ~taught, scores.argmax(axis=1)
                distances -= common_excess(distances[near], first[near], self.strangeness.center, scores.shape[1])
            more = [self.learned.described_scores(asked, genes) for genes in described.values()]
            every = np.column_stack([scores, *more])
            elsewhere[known], scores = ~np.isin(every.argmax(axis=1), kept), every[:, kept]
            probable = softmax(scores / self.temperature, axis=1)  # (b, L)
            probabilities[known] = probable
            best[known], confidence[known] = probable.argmax(axis=1), probable.max(axis=1)
            possible[known] = label_sets(probable, self.of_right_labels, error_rate)
            of_reference = kept[best[known]] < len(self.learned.labels)
            strange = ~taught & (self.strangeness.share(distances) <= novelty_rate)
            novel[known] = np.where(of_reference, strange, scores.max(axis=1) < 0)
        return Annotation(
            labels=tuple(names[kept].tolist()),
            probabilities=probabilities,
            best=best,
            confidence=confidence,
            possible=possible,
            novel=novel,
            elsewhere=elsewhere,
            cells=asked,
            aligned=aligned,
        )


def check_candidates(
    labels: Shaped[np.ndarray, " R"],
    candidates: Sequence[str] | None,
    described: Mapping[str, Int[np.ndarray, " m"]],
    method: str,
) -> Int[np.ndarray, " L"]:
    """Return which labels may be given: places among the R of the reference and, after them, those described.

    Raises
    ------
    ConfigError
        No candidate, or one that is no label; labels described to another method than "match", or that the reference
        has.
    """
    known = labels.tolist()
    if described and method != "match":
        raise ConfigError(f"markers= describes labels to method='match', and the method is {method!r}; use 'match'.")
    for name in described:
        if name in known:
            raise ConfigError(f"markers= describes {name!r}, of which the reference has cells; give another name.")
    names = [*known, *described]
    unknown = [name for name in candidates or () if name not in names]
    if unknown or (candidates is not None and not len(candidates)):
        what = f"holds {', '.join(map(repr, unknown))}" if unknown else "is empty"
        raise ConfigError(f"candidates= {what}; the labels are {', '.join(map(repr, names))}.")
    return np.array([place for place, name in enumerate(names) if candidates is None or name in candidates])


def check_options(*, method: str = "ensemble", error_rate: float = 0.1, novelty_rate: float = 0.05) -> None:
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
    if groups is not None and len(np.unique(groups)) < 2:
        raise ConfigError("the reference has one group, and confidence is checked in others; leave group_key out.")
    checkable = numbers.max() > 1 if groups is None else any_label_shared(labels, groups)
    if not checkable:
        raise ConfigError(
            "every label of the reference is in one group, or has one cell; no confidence can be checked. "
            "Leave group_key out, or label more cells."
        )


def reference_folds(
    labels: Shaped[np.ndarray, " A"],
    groups: Shaped[np.ndarray, " A"] | None,
    *,
    num_folds: int = NUM_FOLDS,
    seed: int = 0,
) -> tuple[Split, ...]:
    """Hold out each cell once, whole groups where there are any.

    Raises
    ------
    ConfigError
        A fold would learn from a single cell.
    """
    if groups is None:
        splits = folds_by_cell(labels, num_folds=min(num_folds, len(labels)), seed=seed)
    else:
        number = min(num_folds, len(np.unique(groups)))
        splits = folds_by_group(groups, labels, grouping="group", num_folds=number, seed=seed)
    if min(len(split.train) for split in splits) < 2:
        raise ConfigError("but for one group, the reference has a single cell; leave group_key out, or label more.")
    return splits
