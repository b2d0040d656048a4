"""The effect of each perturbation in each context: mean expression of its cells, less that of the control cells there.

Expression is log1p of counts per 10,000 of the genes given; a change is the difference of two means of it. Only sums
are kept of cells, which may come in blocks.
Letters: N cells; M genes; E effects, each of a perturbation in a context; C contexts.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_matrix

from xtrimogene.errors import CountsError
from xtrimogene.evaluation.baselines import log_normalize
from xtrimogene.tasks.perturbation.cell_groups import QUARTERS, CellGroups, deal_cells
from xtrimogene.tasks.perturbation.group_sums import GroupSums


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


class EffectSums:
    """All that effects are measured from: sums of the cells of ``groups``, and of their squares."""

    def __init__(self, groups: CellGroups, num_genes: int) -> None:
        self.groups = groups
        self._treated = GroupSums(len(groups.perturbation), num_genes)
        self._controls = GroupSums(QUARTERS * len(groups.context_names), num_genes)
        self._squares = GroupSums(3 * len(groups.context_names), num_genes)  # perturbed, and either half of controls

    def add(self, counts: csr_matrix, first: int = 0) -> None:
        """Add cells, the first of which is number ``first`` of those in groups."""
        rows, number = slice(first, first + counts.shape[0]), len(self.groups.context_names)
        effect, quarter, place = self.groups.effect[rows], self.groups.quarter[rows], self.groups.place[rows]
        values = log_normalize(counts)
        self._treated.add(values, effect)
        self._controls.add(values, np.where(quarter >= 0, quarter * number + place, -1))
        kind = np.where(effect >= 0, 0, np.where(quarter >= 0, 1 + quarter % 2, -1))
        squares = csr_matrix((values.data**2, values.indices, values.indptr), shape=values.shape)
        self._squares.add(squares, np.where(kind >= 0, kind * number + place, -1))

    def effects(self) -> Effects:
        """Return the effects, counted from all control cells."""
        return self._measure(np.arange(len(self.groups.context_names)), ((0, 2), (1, 3)))

    def apart(self) -> tuple[Effects, Float[np.ndarray, "E M"]]:
        """Return effects counted from half of the control cells of each context, and the same changes from the others.

        As `Effects.apart`, for an outer test: the first still has halves of its own, to choose by.

        Raises
        ------
        CountsError
            No context with effects has the three control cells that this takes.
        """
        sizes, means = self._control_means((1, 3))
        kept = np.intersect1d(np.flatnonzero(self._control_means((2,))[0]), self.groups.context)
        if not len(kept):
            raise CountsError(f"no context has 3 control cells, the most are {2 * sizes.max()}; give more of them.")
        effects = self._measure(kept, ((0,), (2,)))
        return effects, effects.change + (effects.control - means[kept])[effects.context]

    def _control_means(self, quarters: tuple[int, ...]) -> tuple[Int[np.ndarray, " C"], Float[np.ndarray, "C M"]]:
        number = len(self.groups.context_names)
        sizes = self._controls.sizes.reshape(QUARTERS, number)[list(quarters)].sum(axis=0)
        sums = self._controls.sums.reshape(QUARTERS, number, -1)[list(quarters)].sum(axis=0)
        return sizes, sums / np.maximum(sizes, 1)[:, None]

    def _measure(self, kept: Int[np.ndarray, " c"], halves: tuple[tuple[int, ...], tuple[int, ...]]) -> Effects:
        quarters = halves[0] + halves[1]
        sizes, control = (array[kept] for array in self._control_means(quarters))
        rows = np.flatnonzero(np.isin(self.groups.context, kept))
        context, num_cells = np.searchsorted(kept, self.groups.context[rows]), self._treated.sizes[rows]
        treated = self._treated.sums[rows] / num_cells[:, None]
        kinds = [0, *sorted({1 + quarter % 2 for quarter in quarters})]
        squares = self._squares.sums.reshape(3, len(self.groups.context_names), -1)[kinds][:, kept].sum(axis=(0, 1))
        within = squares - num_cells @ treated**2 - sizes @ control**2
        freedom = int(num_cells.sum() + sizes.sum()) - len(rows) - len(kept)
        return Effects(
            perturbation=self.groups.perturbation[rows],
            context=context,
            change=treated - control[context],
            num_cells=num_cells,
            context_names=tuple(self.groups.context_names[number] for number in kept.tolist()),
            control=control,
            halves=np.stack([self._control_means(half)[1][kept] for half in halves]),
            num_controls=sizes,
            variance=np.maximum(within, 0) / max(freedom, 1),
        )


def sum_effects(
    counts: csr_matrix,
    perturbation: Shaped[np.ndarray, " N"],
    context: Shaped[np.ndarray, " N"],
    control: str,
    *,
    min_cells: int = 10,
    seed: int = 0,
) -> EffectSums:
    """Sum cells whose perturbation, by canonical name, and context are known; as `deal_cells`."""
    sums = EffectSums(deal_cells(perturbation, context, control, min_cells=min_cells, seed=seed), counts.shape[1])
    sums.add(counts)
    return sums


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
    seed: int = 0,
) -> Effects:
    """Measure every perturbation that has ``min_cells`` cells in a context whose control cells are as many.

    Parameters
    ----------
    counts
        Cells x the measured genes.
    seed
        Deals the control cells into halves.
    """
    return sum_effects(counts, perturbation, context, control, min_cells=min_cells, seed=seed).effects()
