"""Every method on every split and seed: what it may learn from, what it is asked, and what it answers.

Letters: A cells to learn from; B cells asked for; G genes that all parts of the task measured; N cells of the task; T
tested ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_matrix

from xtrimogene.evaluation.comparison import Method
from xtrimogene.evaluation.splits import Split, any_label_shared, folds_by_cell, folds_by_group
from xtrimogene.evaluation.tasks import Task


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lesson:
    """One split under one seed, without the labels of the cells asked for: no method can look at them.

    ``inner`` are folds of the A cells, numbered from 0, by the same grouping where it can be: what is chosen is chosen
    there. ``groups`` keep cells apart in them (None: they are by cell). ``batches`` say where cells come from.
    """

    seed: int
    rows: Int[np.ndarray, " A"]
    asked_rows: Int[np.ndarray, " B"]
    counts: csr_matrix  # A x G
    asked: csr_matrix  # B x G
    labels: Shaped[np.ndarray, " A"]
    groups: Shaped[np.ndarray, " A"] | None
    batches: Shaped[np.ndarray, " A"]
    asked_batches: Shaped[np.ndarray, " B"]
    inner: tuple[Split, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sureness:
    """What a method says beside its labels; ``possible`` are the labels that each cell may have."""

    confidence: Float[np.ndarray, " B"]
    possible: tuple[frozenset[str], ...]
    unknown: Bool[np.ndarray, " B"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answer:
    """The label of each cell asked for, "" for none; ``chosen``: what was chosen on inner folds, and by what."""

    labels: Shaped[np.ndarray, " B"]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    sureness: Sureness | None = None


Run = Callable[[Lesson], Mapping[Method, Answer]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trials:
    """Answers to all tested cells, for each seed; ``chosen`` has a row for each choice.

    ``learned``: a cell's own label was among those learned from.
    """

    predictions: Mapping[Method, tuple[Shaped[np.ndarray, " T"], ...]]
    sureness: Mapping[Method, tuple[Sureness, ...]]
    learned: tuple[Bool[np.ndarray, " T"], ...]
    chosen: tuple[Mapping[str, Any], ...]
    inner_grouping: tuple[str, ...]


def run_trials(
    task: Task,
    runs: Sequence[Run],
    *,
    groups: Shaped[np.ndarray, " N"] | None,
    group_name: str,
    num_inner_folds: int,
    seeds: Sequence[int],
    advance: Callable[[int], None] = lambda steps: None,
) -> Trials:
    """Run every method on every split and seed.

    Parameters
    ----------
    groups
        What inner folds keep apart, where the training cells have two groups and some label is in both; else cells.
    advance
        Called with 1 after each method and split.
    """
    counts = task.counts[:, np.flatnonzero(task.genes)]
    answers: dict[Method, list[list[tuple[Split, Answer]]]] = {}
    chosen: list[Mapping[str, Any]] = []
    groupings = dict[str, None]()
    for number, (seed, splits) in enumerate(zip(seeds, task.splits, strict=True)):
        for split in splits:
            lesson = lesson_of(task, counts, split, groups, group_name, num_inner_folds, seed)
            groupings[lesson.inner[0].grouping] = None
            for run in runs:
                for method, answer in run(lesson).items():
                    answers.setdefault(method, [[] for _ in seeds])[number].append((split, answer))
                    if answer.chosen:
                        chosen.append({"method": str(method), "seed": seed, "split": split.name, **answer.chosen})
                advance(1)
    sure = {
        method: tuple(map(_join_sureness, by_seed))
        for method, by_seed in answers.items()
        if all(answer.sureness is not None for one in by_seed for _, answer in one)
    }
    return Trials(
        predictions={method: tuple(map(_join_labels, by_seed)) for method, by_seed in answers.items()},
        sureness=sure,
        learned=tuple(_learned(task, splits) for splits in task.splits),
        chosen=tuple(chosen),
        inner_grouping=tuple(groupings),
    )


def lesson_of(
    task: Task,
    counts: csr_matrix,
    split: Split,
    groups: Shaped[np.ndarray, " N"] | None,
    group_name: str,
    num_inner_folds: int,
    seed: int,
) -> Lesson:
    labels = task.labels[split.train]
    kept = None if groups is None else groups[split.train]
    if kept is not None and not any_label_shared(labels, kept):
        kept = None
    if kept is None:
        inner = folds_by_cell(labels, num_folds=min(num_inner_folds, len(labels)), seed=seed)
    else:
        num_folds = min(num_inner_folds, len(np.unique(kept)))
        inner = folds_by_group(kept, labels, grouping=group_name, num_folds=num_folds, seed=seed)
    return Lesson(
        seed=seed,
        rows=split.train,
        asked_rows=split.test,
        counts=counts[split.train],
        asked=counts[split.test],
        labels=labels,
        groups=kept,
        batches=task.groups[split.train],
        asked_batches=task.groups[split.test],
        inner=inner,
    )


def _join_labels(parts: Sequence[tuple[Split, Answer]]) -> Shaped[np.ndarray, " T"]:
    order = np.argsort(np.concatenate([split.test for split, _ in parts]))
    return np.concatenate([answer.labels.astype(str) for _, answer in parts])[order]


def _join_sureness(parts: Sequence[tuple[Split, Answer]]) -> Sureness:
    order = np.argsort(np.concatenate([split.test for split, _ in parts]))
    said = [answer.sureness for _, answer in parts if answer.sureness is not None]
    possible = [labels for one in said for labels in one.possible]
    return Sureness(
        confidence=np.concatenate([one.confidence for one in said])[order],
        possible=tuple(possible[place] for place in order),
        unknown=np.concatenate([one.unknown for one in said])[order],
    )


def _learned(task: Task, splits: Sequence[Split]) -> Bool[np.ndarray, " T"]:
    learned = np.zeros(len(task.labels), dtype=bool)
    for split in splits:
        learned[split.test] = np.isin(task.labels[split.test], task.labels[split.train])
    return learned[task.tested]
