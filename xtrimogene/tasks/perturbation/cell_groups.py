"""Which mean each cell counts in: known from its perturbation and context, before any count is read.

Letters: N cells; E effects, each of a perturbation in a context; C contexts.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Shaped

from xtrimogene.errors import CountsError

QUARTERS = 4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CellGroups:
    """Effects with enough cells, in contexts with enough control cells.

    ``effect`` of a perturbed cell is the number of its effect, and ``quarter`` that of a control cell one of the four
    that those of its context are dealt into; else -1. ``place`` is a cell's context, -1 where that is left out.
    Quarters 0 and 2 are the half that is learned from where the other judges.
    """

    perturbation: Shaped[np.ndarray, " E"]
    context: Int[np.ndarray, " E"]
    context_names: tuple[str, ...]
    effect: Int[np.ndarray, " N"]
    quarter: Int[np.ndarray, " N"]
    place: Int[np.ndarray, " N"]

    def draw_controls(self, most: int, seed: int) -> Int[np.ndarray, " n"]:
        """Draw control cells of the half that is learned from, at most so many over all contexts, of each as many.

        A smaller number of them is among a larger one.
        """
        random, rows = np.random.default_rng(seed), []
        for number in range(len(self.context_names)):
            here = random.permutation(np.flatnonzero((self.place == number) & np.isin(self.quarter, (0, 2))))
            rows.append(here[: max(most // len(self.context_names), 1)])
        return np.sort(np.concatenate(rows))


def deal_cells(
    perturbation: Shaped[np.ndarray, " N"],
    context: Shaped[np.ndarray, " N"],
    control: str,
    *,
    used: Bool[np.ndarray, " N"] | None = None,
    min_cells: int = 10,
    seed: int = 0,
) -> CellGroups:
    """Group perturbed cells of which there are ``min_cells`` beside as many control cells, two at least.

    Parameters
    ----------
    used
        Which cells count. Default: all.

    Raises
    ------
    CountsError
        No context has enough control cells, or none of the perturbations has enough cells in one that has.
    """
    names, place = np.unique(context, return_inverse=True)
    used = np.ones(len(place), dtype=bool) if used is None else used
    is_control = used & (perturbation == control)
    num_controls = np.bincount(place[is_control], minlength=len(names))
    least = max(min_cells, 2)
    kept = np.flatnonzero(num_controls >= least)
    if not len(kept):
        raise CountsError(
            f"no context has {least} control cells, the most are {num_controls.max(initial=0)}; give more cells of "
            f"{control!r}, leave the groups out, or lower min_cells."
        )
    number = np.full(len(names), -1)
    number[kept] = np.arange(len(kept))
    place, random, quarter = np.where(used, number[place], -1), np.random.default_rng(seed), np.full(len(place), -1)
    for one in range(len(kept)):
        cells = random.permutation(np.flatnonzero(is_control & (place == one)))
        quarter[cells] = np.arange(len(cells)) % QUARTERS
    treated = np.flatnonzero(~is_control & (place >= 0))
    kinds, kind = np.unique(perturbation[treated], return_inverse=True)
    pairs, pair, num_cells = np.unique(kind * len(kept) + place[treated], return_inverse=True, return_counts=True)
    enough = num_cells >= min_cells
    if not enough.any():
        raise CountsError(
            f"no perturbation has {min_cells} cells in a context with as many control cells; lower min_cells."
        )
    effect = np.full(len(perturbation), -1)
    effect[treated] = np.where(enough, np.cumsum(enough) - 1, -1)[pair]
    return CellGroups(
        perturbation=kinds[pairs // len(kept)][enough],
        context=(pairs % len(kept))[enough],
        context_names=tuple(names[kept].tolist()),
        effect=effect,
        quarter=quarter,
        place=place,
    )
