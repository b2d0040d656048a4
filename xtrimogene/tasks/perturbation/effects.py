"""The effect of each perturbation in each context: mean expression of its cells, less that of the control cells there.

Expression is log1p of counts per 10,000 of the genes given; a change is the difference of two means of it. Sums are
sparse products, so that cells x genes is never dense.
Letters: N cells; M genes; E effects, each of a perturbation in a context; C contexts.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_matrix

from xtrimogene.errors import CountsError
from xtrimogene.evaluation.baselines import log_normalize


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Effects:
    """Mean changes, and what they are counted from.

    ``context`` is the number of each effect's context. ``halves`` are the means of two halves of each context's control
    cells, which share no noise; ``control`` is that of all of them. ``variance`` is that of a gene over the cells of
    one perturbation and context.
    """

    perturbation: Shaped[np.ndarray, " E"]
    context: Int[np.ndarray, " E"]
    change: Float[np.ndarray, "E M"]
    num_cells: Int[np.ndarray, " E"]
    context_names: tuple[str, ...]
    control: Float[np.ndarray, "C M"]
    halves: Float[np.ndarray, "2 C M"]
    num_controls: Int[np.ndarray, " C"]
    variance: Float[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.perturbation)

    def rows(self, rows: Int[np.ndarray, " F"] | Bool[np.ndarray, " E"]) -> "Effects":
        """Return some of the effects, and of the contexts those that they are in."""
        kept, context = np.unique(self.context[rows], return_inverse=True)
        return replace(
            self,
            perturbation=self.perturbation[rows],
            context=context,
            change=self.change[rows],
            num_cells=self.num_cells[rows],
            context_names=tuple(self.context_names[number] for number in kept.tolist()),
            control=self.control[kept],
            halves=self.halves[:, kept],
            num_controls=self.num_controls[kept],
        )

    def apart(self) -> tuple["Effects", Float[np.ndarray, "E M"]]:
        """Return the effects counted from one half of the control cells, and their changes from the other.

        The first is for a predictor to read, the second to judge it by: counted from the same cells, the noise of their
        mean would be in both, and a predictor would be praised for knowing it.
        """
        read, other = (half[self.context] for half in self.halves)
        whole = self.control[self.context]
        return replace(self, change=self.change + whole - read, control=self.halves[0]), self.change + whole - other


def measure_apart(
    counts: csr_matrix,
    perturbation: Shaped[np.ndarray, " N"],
    context: Shaped[np.ndarray, " N"],
    control: str,
    *,
    min_cells: int = 10,
    seed: int = 0,
) -> tuple[Effects, Float[np.ndarray, "E M"]]:
    """Measure effects from half of the control cells of each context, and the same changes from the other half.

    As `Effects.apart`, for an outer test: the first still has halves of its own, to choose by. Half of ``min_cells``
    control cells, and at least two, are enough in a half.
    """
    _, place = np.unique(context, return_inverse=True)
    other = _deal_halves(place, perturbation == control, seed) == 1
    effects = measure_effects(
        counts[~other],
        perturbation[~other],
        context[~other],
        control,
        min_cells=min_cells,
        min_controls=min_cells // 2,
        seed=seed,
    )
    number = {name: place for place, name in enumerate(effects.context_names)}
    group = np.array([number.get(name, -1) for name in context.tolist()])
    judge = mean_expression(counts, np.where(other, group, -1), len(number))
    return effects, effects.change + (effects.control - judge)[effects.context]


def measure_halves(
    counts: csr_matrix,
    perturbation: Shaped[np.ndarray, " N"],
    context: Shaped[np.ndarray, " N"],
    control: str,
    *,
    min_cells: int = 10,
    seed: int = 0,
) -> tuple[Effects, Float[np.ndarray, "E M"]]:
    """Measure every effect twice, in two halves of its cells and of the control cells: what a repeat would agree on."""
    random = np.random.default_rng(seed)
    _, group = np.unique(np.char.add(np.char.add(perturbation, "\n"), context), return_inverse=True)
    order = random.permutation(len(group))
    order = order[np.argsort(group[order], kind="stable")]
    half = np.empty(len(group), dtype=np.int64)
    half[order] = np.arange(len(group)) % 2  # dealt within each group, so that both halves have of it
    first, second = (
        measure_effects(counts[rows], perturbation[rows], context[rows], control, min_cells=min_cells, seed=seed)
        for rows in (np.flatnonzero(half == 0), np.flatnonzero(half == 1))
    )
    names = [
        list(zip(one.perturbation, np.array(one.context_names)[one.context], strict=True)) for one in (first, second)
    ]
    place = {name: row for row, name in enumerate(names[1])}
    both = np.array([row for row, name in enumerate(names[0]) if name in place], dtype=np.int64)
    return first.rows(both), second.change[[place[names[0][row]] for row in both.tolist()]]


def measure_effects(
    counts: csr_matrix,
    perturbation: Shaped[np.ndarray, " N"],
    context: Shaped[np.ndarray, " N"],
    control: str,
    *,
    min_cells: int = 10,
    min_controls: int | None = None,
    seed: int = 0,
) -> Effects:
    """Measure every perturbation that has ``min_cells`` cells in a context whose control cells are as many.

    Parameters
    ----------
    counts
        Cells x the measured genes.
    perturbation, context
        Of each cell; perturbations by canonical name.
    min_controls
        Of a context, where these are not ``min_cells``; at least two are needed.
    seed
        Deals the control cells into halves.

    Raises
    ------
    CountsError
        No context has enough control cells, or none of the perturbations has enough cells in one that has.
    """
    values = log_normalize(counts)
    names, place = np.unique(context, return_inverse=True)
    is_control = perturbation == control
    num_controls = np.bincount(place[is_control], minlength=len(names))
    least = max(min_cells if min_controls is None else min_controls, 2)
    kept = np.flatnonzero(num_controls >= least)
    if not len(kept):
        raise CountsError(
            f"no context has {least} control cells, the most are {num_controls.max(initial=0)}; give more cells of "
            f"{control!r}, leave the groups out, or lower min_cells."
        )
    number = np.full(len(names), -1)
    number[kept] = np.arange(len(kept))
    place = number[place]
    half = _deal_halves(place, is_control, seed)
    halves, sizes = _group_means(values, np.where(half >= 0, half * len(kept) + place, -1), 2 * len(kept))
    halves, sizes = halves.reshape(2, len(kept), -1), sizes.reshape(2, len(kept), 1)
    means = (halves * sizes).sum(axis=0) / sizes.sum(axis=0)
    treated = np.flatnonzero(~is_control & (place >= 0))
    kinds, kind = np.unique(perturbation[treated], return_inverse=True)
    pairs, pair, num_cells = np.unique(kind * len(kept) + place[treated], return_inverse=True, return_counts=True)
    enough = num_cells >= min_cells
    if not enough.any():
        raise CountsError(
            f"no perturbation has {min_cells} cells in a context with as many control cells; lower min_cells."
        )
    group = np.full(len(perturbation), -1)
    group[treated] = np.where(enough, np.cumsum(enough) - 1, -1)[pair]
    treated_means, _ = _group_means(values, group, int(enough.sum()))
    context_of = (pairs % len(kept))[enough]
    everyone = np.where(is_control & (place >= 0), enough.sum() + place, group)
    return Effects(
        perturbation=kinds[pairs // len(kept)][enough],
        context=context_of,
        change=treated_means - means[context_of],
        num_cells=num_cells[enough],
        context_names=tuple(names[kept].tolist()),
        control=means,
        halves=halves,
        num_controls=num_controls[kept],
        variance=_variance_within(values, everyone, np.concatenate([treated_means, means])),
    )


def mean_expression(counts: csr_matrix, group: Int[np.ndarray, " N"], num_groups: int) -> Float[np.ndarray, "C M"]:
    """Mean log1p of counts per 10,000 over the cells of each group; a cell of group -1 is in none."""
    return _group_means(log_normalize(counts), group, num_groups)[0]


def _deal_halves(place: Int[np.ndarray, " N"], is_control: Bool[np.ndarray, " N"], seed: int) -> Int[np.ndarray, " N"]:
    """Deal the control cells of each context into halves 0 and 1; every other cell gets -1."""
    half = np.full(len(place), -1)
    random = np.random.default_rng(seed)
    for number in np.unique(place[place >= 0]):
        cells = random.permutation(np.flatnonzero(is_control & (place == number)))
        half[cells] = np.arange(len(cells)) % 2
    return half


def _group_means(
    values: csr_matrix, group: Int[np.ndarray, " N"], num_groups: int
) -> tuple[Float[np.ndarray, "K M"], Int[np.ndarray, " K"]]:
    cells = np.flatnonzero(group >= 0)
    sizes = np.bincount(group[cells], minlength=num_groups)
    member = csr_matrix((np.ones(len(cells)), (group[cells], cells)), shape=(num_groups, values.shape[0]))
    return np.asarray((member @ values).todense()) / np.maximum(sizes, 1)[:, None], sizes


def _variance_within(
    values: csr_matrix, group: Int[np.ndarray, " N"], means: Float[np.ndarray, "K M"]
) -> Float[np.ndarray, " M"]:
    cells = values[group >= 0]
    sizes = np.bincount(group[group >= 0], minlength=len(means))
    squares = np.asarray(cells.multiply(cells).sum(axis=0)).ravel()
    freedom = max(int(sizes.sum() - (sizes > 0).sum()), 1)
    return np.asarray(np.maximum(squares - sizes @ means**2, 0) / freedom)
