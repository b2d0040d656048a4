"""Drugs x drugs: which pairs act together on a cell line."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xtrimogene.errors import FieldError
from xtrimogene.pl.embedding import GREY, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_DRUGS = 60


def synergy_matrix(
    pairs: pd.DataFrame,
    cell_line: str,
    *,
    value_key: str | None = None,
    drug_keys: tuple[str, str] = ("drug1", "drug2"),
    cell_line_key: str = "cell_line",
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the pairs of drugs on one cell line as a square; what was not asked is grey, new drugs and pairs are marked.

    Drugs that act together with more others come first. A pair given more than once, in either order, gets its mean.

    Parameters
    ----------
    pairs
        What `xtrimogene.tl.synergy` returned, or a table of measurements.
    cell_line
        A name in ``cell_line_key``.
    value_key
        Default: "probability" or, where there is none, "score".
    ax
        Where to draw. Default: a new figure.

    Raises
    ------
    FieldError
        No such column, no row of this line, or more than 60 drugs.
    """
    if value_key is None:
        value_key = "probability" if "probability" in pairs.columns else "score"
    for name in (*drug_keys, cell_line_key, value_key):
        if name not in pairs.columns:
            raise FieldError(f"the table has no column {name!r}; it has {', '.join(map(str, pairs.columns))}.")
    rows = pairs[pairs[cell_line_key].astype(str) == cell_line]
    if rows.empty:
        known = pairs[cell_line_key].astype(str).unique()[:5]
        raise FieldError(f"no row is of cell line {cell_line!r}; there are {', '.join(known)}.")
    named = rows[list(drug_keys)].astype(str).to_numpy()
    drugs = np.unique(named)
    if len(drugs) > MOST_DRUGS:
        raise FieldError(f"{len(drugs)} drugs cannot be told apart here; at most {MOST_DRUGS} can.")
    values = rows[value_key].to_numpy(np.float64)
    sums, counts = np.zeros((2, len(drugs), len(drugs)))
    first, second = np.searchsorted(drugs, named).T
    for one, other in ((first, second), (second, first)):
        np.add.at(sums, (one, other), values)
        np.add.at(counts, (one, other), 1)
    square = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    order = np.argsort(-np.nanmean(square, axis=1), kind="stable")
    square, drugs = square[np.ix_(order, order)], drugs[order]
    is_probability = value_key == "probability"
    most = 1.0 if is_probability else float(np.nanmax(np.abs(square)))
    size = 2.2 + 0.28 * len(drugs)
    ax = new_axes(size + 0.8, size) if ax is None else ax
    ax.set_facecolor(GREY)
    drawn = ax.imshow(square, cmap="RdBu_r", vmin=0 if is_probability else -most, vmax=most)
    if "novelty" in rows.columns:
        new = rows["novelty"].astype(str).str.contains("new pair|new drug").to_numpy()
        across, down = np.argsort(order)[[first[new], second[new]]]
        ax.scatter(np.r_[across, down], np.r_[down, across], s=6, c="black", lw=0)
    ax.set_xticks(range(len(drugs)), drugs, rotation=90, fontsize=7)
    ax.set_yticks(range(len(drugs)), drugs, fontsize=7)
    bar = ax.figure.colorbar(drawn, ax=ax, shrink=0.7)
    bar.set_label("probability of synergy" if is_probability else value_key.replace("_", " "))
    ax.set_title(cell_line if title is None else title)
    return ax
