"""Which cells are learned from and which are tested.

A group (donor, study, batch) is never on both sides, unless a split by cell is asked for by name (``folds_by_cell``):
cells of one donor resemble each other, so a split by cell answers an easier question.

No label is ever dropped. A label that occurs in the test cells but not in the training cells stays in the test:
nothing can predict it, its F1 is 0 for every method, and `absent_labels` names it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped

from xtrimogene.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Split:
    """Rows to learn from and rows to test, with no row in both.

    ``grouping`` says what is kept apart: "donor", "study", "batch", ... or "cell" where nothing larger than a cell is.
    """

    name: str
    train: Int[np.ndarray, " A"]
    test: Int[np.ndarray, " B"]
    grouping: str

    def __post_init__(self) -> None:
        if not len(self.train) or not len(self.test):
            raise ConfigError(
                f"split {self.name!r} has {len(self.train)} training and {len(self.test)} test cells; both need one."
            )
        if len(np.intersect1d(self.train, self.test)):
            raise ConfigError(f"split {self.name!r} has the same cell in training and test; make the two disjoint.")


def between_groups(groups: Shaped[np.ndarray, " N"], *, train: str, test: str, grouping: str = "study") -> Split:
    """Learn from every cell of one group (a study, a platform) and test on every cell of another."""
    for wanted in (train, test):
        if wanted not in groups:
            raise ConfigError(
                f"no cell belongs to the {grouping} {wanted!r}; there are {', '.join(np.unique(groups).tolist())}."
            )
    return Split(
        name=f"{train} -> {test}",
        train=np.flatnonzero(groups == train),
        test=np.flatnonzero(groups == test),
        grouping=grouping,
    )


def folds_by_group(
    groups: Shaped[np.ndarray, " N"],
    labels: Shaped[np.ndarray, " N"],
    *,
    grouping: str,
    num_folds: int | None = None,
    seed: int = 0,
) -> tuple[Split, ...]:
    """Test every cell once, with its whole group held out.

    Without ``num_folds`` each group is a fold of its own. With it, whole groups are dealt to that many folds,
    shuffled by ``seed`` and kept as alike in labels as whole groups allow.
    """
    names = np.unique(groups).tolist()
    num_folds = num_folds or len(names)
    if not 2 <= num_folds <= len(names):
        raise ConfigError(
            f"{num_folds} folds by {grouping} are not possible with {len(names)} groups; give 2 to {len(names)}."
        )
    if num_folds == len(names):
        tests = [np.flatnonzero(groups == name) for name in names]
    else:
        fold = _deal(groups, labels, num_folds, seed)
        tests = [np.flatnonzero(fold == number) for number in range(num_folds)]
        names = [f"fold {number}" for number in range(1, num_folds + 1)]
    return tuple(
        _hold_out(f"{grouping}: {name}", test, len(groups), grouping) for name, test in zip(names, tests, strict=True)
    )


def any_label_shared(labels: Shaped[np.ndarray, " N"], groups: Shaped[np.ndarray, " N"]) -> bool:
    """Say whether some label is in two groups, so that what is learned of it in one can be checked in another."""
    pairs = np.unique(np.stack([labels.astype(str), groups.astype(str)], axis=1), axis=0)
    return bool(np.unique(pairs[:, 0], return_counts=True)[1].max() > 1)


def folds_by_cell(labels: Shaped[np.ndarray, " N"], *, num_folds: int = 5, seed: int = 0) -> tuple[Split, ...]:
    """Test every cell once, in folds with the same share of every label; donors and batches are on both sides.

    A label with fewer cells than folds is in the test of as many folds as it has cells.
    """
    if not 2 <= num_folds <= len(labels):
        raise ConfigError(
            f"{num_folds} folds by cell are not possible; there are {len(labels)} cells, so give 2 to {len(labels)}."
        )
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[order] = (
        np.arange(len(labels)) % num_folds
    )  # dealt like cards, label after label, so folds differ by one cell at most
    return tuple(
        _hold_out(f"cell: fold {number + 1}", np.flatnonzero(fold == number), len(labels), "cell")
        for number in range(num_folds)
    )


def draw_train(split: Split, labels: Shaped[np.ndarray, " N"], *, fraction: float = 0.9, seed: int = 0) -> Split:
    """Return the split with a random share of its training cells, rounded up in each label, and the same test cells.

    This is what a seed changes where a split itself leaves nothing to chance (one study to another, one donor held
    out).
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"fraction={fraction} of the training cells was asked for; give more than 0 and at most 1.")
    generator = np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels[split.train]):
        rows = split.train[labels[split.train] == label]
        kept.append(generator.permutation(rows)[: int(np.ceil(fraction * len(rows)))])
    return Split(name=split.name, train=np.sort(np.concatenate(kept)), test=split.test, grouping=split.grouping)


def draw_splits(
    labels: Shaped[np.ndarray, " N"],
    groups: Shaped[np.ndarray, " N"] | None,
    seeds: Sequence[int],
    *,
    grouping: str,
    num_folds: int | None,
    between: Split | None = None,
) -> tuple[tuple[Split, ...], ...]:
    """Return the splits of each seed; all seeds test the same cells.

    Without groups, cells are held out, in five folds unless ``num_folds`` says otherwise; else ``between`` is taken as
    it is, or groups are held out. A seed deals folds anew where they are random; where nothing is, it draws 90 % of the
    training cells.
    """

    def draw(seed: int) -> tuple[Split, ...]:
        if groups is None:
            return folds_by_cell(labels, num_folds=num_folds or 5, seed=seed)
        if between is not None:
            return (draw_train(between, labels, seed=seed),)
        splits = folds_by_group(groups, labels, grouping=grouping, num_folds=num_folds, seed=seed)
        return splits if num_folds is not None else tuple(draw_train(split, labels, seed=seed) for split in splits)

    return tuple(map(draw, seeds))


def absent_labels(split: Split, labels: Shaped[np.ndarray, " N"]) -> tuple[str, ...]:
    """Labels of the test cells that no training cell has."""
    return tuple(np.setdiff1d(labels[split.test], labels[split.train]).tolist())


def _deal(
    groups: Shaped[np.ndarray, " N"], labels: Shaped[np.ndarray, " N"], num_folds: int, seed: int
) -> Int[np.ndarray, " N"]:
    """Give each group, large ones first, to the fold that has the least of its labels; an empty fold has the least."""
    names, group = np.unique(groups, return_inverse=True)
    kinds, label = np.unique(labels, return_inverse=True)
    cells = np.zeros((len(names), len(kinds)))
    np.add.at(cells, (group, label), 1)
    shares = cells / cells.sum(axis=0)  # a rare label weighs as much as a frequent one
    shuffled = np.random.default_rng(seed).permutation(len(names))
    fold_of_group = np.empty(len(names), dtype=np.int64)
    held = np.zeros((num_folds, len(kinds)))
    sizes = np.zeros(num_folds)
    for number in shuffled[np.argsort(-cells[shuffled].sum(axis=1), kind="stable")]:
        fold = np.lexsort((sizes, held @ shares[number]))[0]
        fold_of_group[number] = fold
        held[fold] += shares[number]
        sizes[fold] += cells[number].sum()
    return np.asarray(fold_of_group[group])


def _hold_out(name: str, test: Int[np.ndarray, " B"], num_cells: int, grouping: str) -> Split:
    return Split(name=name, train=np.setdiff1d(np.arange(num_cells), test), test=test, grouping=grouping)
