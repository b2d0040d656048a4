"""Predicted change beside the measured one, gene by gene."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from xtrimogene.errors import FieldError
from xtrimogene.pl.embedding import FEW_COLOURS, GREY, new_axes
from xtrimogene.tasks.perturbation.metrics import correlation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUM_NAMED = 10


def perturbation(
    predicted: AnnData,
    measured: AnnData,
    row: str,
    *,
    genes: Sequence[str] | None = None,
    ax: "Axes | None" = None,
    title: str | None = None,
) -> "Axes":
    """Draw the predicted change of every gene over the measured one; on the diagonal they are the same.

    Parameters
    ----------
    predicted
        What `xtrimogene.tl.perturb` returned.
    measured
        Measured changes, with the same row and in its var_names genes of the same names; others are left out.
    row
        The perturbation and context, as in ``predicted.obs_names``: "KRAS in all cells".
    genes
        Genes to name. Default: the ten that change most.
    ax
        Where to draw. Default: a new figure.

    Raises
    ------
    FieldError
        One of the two has no such row; fewer than two genes in common; or a gene to name that is not in both.
    """
    for what, cells in (("predicted", predicted), ("measured", measured)):
        if row not in cells.obs_names:
            there = ", ".join(map(repr, cells.obs_names[:5]))
            raise FieldError(f"{what} has no row {row!r}; it begins with {there or 'none'}.")
    shared = predicted.var_names.intersection(measured.var_names)
    if len(shared) < 2:
        raise FieldError(f"predicted and measured have {len(shared)} genes in common; at least two are needed.")
    if missing := sorted(set(genes or ()) - set(shared)):
        raise FieldError(f"{', '.join(missing)}: not in both predicted and measured; leave it out.")
    theirs, ours = (np.asarray(cells[row, shared].X, dtype=np.float64).ravel() for cells in (measured, predicted))
    named = shared[np.argsort(-np.abs(theirs), kind="stable")[:NUM_NAMED]] if genes is None else genes
    if ax is None:
        ax = new_axes(5.0, 4.8)
    reach = 1.1 * max(float(np.abs([theirs, ours]).max()), 1e-6)
    ax.plot([-reach, reach], [-reach, reach], color="black", linewidth=0.8, linestyle=":")
    ax.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    ax.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    ax.scatter(theirs, ours, s=9, color=FEW_COLOURS[0], alpha=0.6, linewidths=0)
    put: list[tuple[float, float]] = []
    for gene in named:
        place = shared.get_loc(gene)
        at = float(theirs[place]), float(ours[place])
        near = any(abs(at[0] - x) < 0.4 * reach and abs(at[1] - y) < 0.06 * reach for x, y in put)
        if near and genes is None:  # two names on one spot are none
            continue
        put.append(at)
        left = theirs[place] > 0.5 * reach  # the name stays inside
        ax.annotate(str(gene), (theirs[place], ours[place]), xytext=(-4 if left else 4, 3), fontsize=8,
                    textcoords="offset points", ha="right" if left else "left")  # fmt: skip
    alike = correlation(ours, theirs)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="measured change", ylabel="predicted change")
    ax.set_title(f"{row}: r = {alike:.2f}, {len(shared):,} genes" if title is None else title)
    ax.set_aspect("equal")
    ax.spines[["top", "right"]].set_visible(False)
    return ax
