"""A sweep of in-silico edits: which stand out from those of random genes."""

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from xtrimogene.errors import FieldError
from xtrimogene.pl.embedding import FEW_COLOURS, GREY, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND = 1.96  # standard deviations: 95 % of a normal distribution


def screen(
    table: pd.DataFrame,
    score: Literal["shift", "toward"] = "shift",
    *,
    group: str | None = None,
    label: int = 5,
    max_q: float = 0.05,
    ax: "Axes | None" = None,
    title: str = "",
) -> "Axes":
    """Draw a sweep: edits ranked by how far they lie from edits of random genes of like expression, which are grey.

    Parameters
    ----------
    table
        As `xtrimogene.tl.in_silico` returns it, of one kind of edit or both.
    score
        "shift", how far cells move, or "toward", how far along the way to a state.
    group
        Draw the rows of this group. Default: all rows.
    label
        Name so many edits at either end.
    max_q
        Colour edits whose q is at most this.
    ax
        Where to draw. Default: a new figure.

    Raises
    ------
    FieldError
        The table was made without random genes or states, has no such group, or no edit that changed a cell.
    """
    z_key, q_key = f"{score}_z", f"{score}_q"
    if z_key not in table:
        raise FieldError(
            f"the table has no column {z_key!r}; call xtrimogene.tl.in_silico with num_random"
            + (" and a state to go toward." if score == "toward" else ".")
        )
    if group is not None and ("group" not in table or group not in set(table["group"])):
        raise FieldError(f"the table has no group {group!r}; call xtrimogene.tl.in_silico with group_key.")
    rows = table if group is None else table[table["group"] == group]
    rows = rows[np.isfinite(rows[z_key])].sort_values(z_key, kind="stable")
    if rows.empty:
        raise FieldError("no edit changed a cell here; nothing can be drawn.")
    z, sure = rows[z_key].to_numpy(), (rows[q_key] <= max_q).to_numpy()
    rank = np.arange(1, len(rows) + 1)
    if ax is None:
        ax = new_axes(6.4, 4.4)
    ax.axhspan(-BAND, BAND, color=GREY, alpha=0.6, linewidth=0, label="random genes ± 1.96 s.d.")
    for chosen, colour, name in ((~sure, "#7F7F7F", f"q > {max_q:g}"), (sure, FEW_COLOURS[5], f"q ≤ {max_q:g}")):
        ax.scatter(
            rank[chosen], z[chosen], s=14, color=colour, linewidths=0, zorder=2, label=f"{name}: {chosen.sum():,}"
        )
    _name(ax, rows, rank, z, label)
    ax.set(xlabel="edits, ranked", ylabel=f"{score}: standard deviations from random genes", title=title)
    ax.margins(x=0.08, y=0.12)
    ax.legend(frameon=False, loc="upper left", fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _name(ax: "Axes", rows: pd.DataFrame, rank: np.ndarray, z: np.ndarray, number: int) -> None:
    """Write names beside the ends, those at the top to the left of their dots and those at the bottom to the right."""
    names = rows["genes"].to_numpy()
    if rows["edit"].nunique() > 1:
        names = np.where(rows["edit"] == "knock-out", names + " ko", names + " oe")
    if "group" in rows and rows["group"].nunique() > 1:
        names = names + ", " + rows["group"].astype(str).to_numpy()
    low = range(min(number, len(rows) // 2))
    high = range(max(len(rows) - number, len(low)), len(rows))
    for places, side, align in ((low, 6, "left"), (high, -6, "right")):
        for place in places:
            ax.annotate(
                str(names[place]), (float(rank[place]), float(z[place])), xytext=(side, 0),
                textcoords="offset points", ha=align, va="center", fontsize=8,
            )  # fmt: skip
