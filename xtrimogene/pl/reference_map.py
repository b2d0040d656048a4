"""A query on the map of its reference: what its cells are called there, and how surely."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Float

from xtrimogene.errors import FieldError
from xtrimogene.pl.embedding import GREY, MOST_LABELS, dot_style, label_colours, obs_column
from xtrimogene.tl.answer_columns import UNKNOWN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNKNOWN_COLOUR = "#000000"
WIDTH, HEIGHT = 13.0, 4.6  # inches, without the legend


def reference_map(adata: AnnData, *, key: str = "xtrimogene") -> tuple["Axes", "Axes", "Axes"]:
    """Draw the reference by label, and over it in grey the query, by label and by confidence.

    Parameters
    ----------
    adata
        As `xtrimogene.tl.map_to_reference` returns it, with ``obsm["X_umap"]``.
    key
        How its columns begin.

    Returns
    -------
    The three axes; ``axes[0].figure.savefig("map.png")`` keeps the picture.

    Raises
    ------
    FieldError
        No such column, no UMAP, no cell of the query, or more than 60 labels.
    """
    from matplotlib import pyplot

    label = obs_column(adata, f"{key}_label").astype("category")
    confidence = obs_column(adata, f"{key}_confidence").to_numpy(dtype=float)
    asked = (obs_column(adata, f"{key}_source") == "query").to_numpy(dtype=bool)
    if "X_umap" not in adata.obsm:
        raise FieldError("adata.obsm has no 'X_umap'; call xtrimogene.tl.map_to_reference with umap=True.")
    if not asked.any() or asked.all():
        raise FieldError(f"obs[{key + '_source'!r}] has no cell of one of query and reference; give the map of both.")
    plane, dots = np.asarray(adata.obsm["X_umap"]), dot_style(adata.n_obs)
    colours = _colours(label)
    rows = -(-len(colours) // 7)
    figure, (known, labelled, sure) = pyplot.subplots(
        1, 3, figsize=(WIDTH, HEIGHT + 0.25 * (rows + 1)), layout="constrained", sharex=True, sharey=True
    )
    for ax in (labelled, sure):
        ax.scatter(*plane[~asked].T, color=GREY, zorder=1, **dots)
    for ax, here in ((known, ~asked), (labelled, asked)):
        _draw_labels(ax, plane, label, here & label.notna().to_numpy(), colours, dots)
    order = np.flatnonzero(asked)[np.argsort(-confidence[asked], kind="stable")]  # the least sure lie on top
    x, y = plane[order].T
    drawn = sure.scatter(x, y, c=confidence[order], cmap="viridis", vmin=0, vmax=1, zorder=2, **dots)
    figure.colorbar(drawn, ax=sure, shrink=0.6, label="confidence")
    titles = (f"reference, {(~asked).sum():,} cells", f"query, {asked.sum():,} cells", "query, how surely")
    for ax, title in zip((known, labelled, sure), titles, strict=True):
        ax.set(xticks=[], yticks=[], title=title)
        ax.spines[:].set_visible(False)
    _draw_legend(figure, label, asked, colours, rows)
    return known, labelled, sure


def _colours(label: pd.Series) -> dict[str, Any]:
    """Return a colour for each label that some cell has, in order, and last black for the unknown."""
    there = set(label.dropna())
    names = [name for name in label.cat.categories if name in there and name != UNKNOWN]
    if len(names) > MOST_LABELS:
        raise FieldError(
            f"{label.name!r} has {len(names):,} different labels; at most {MOST_LABELS} can be told apart."
        )
    few = [colour for colour in label_colours(len(names) + 1) if colour != UNKNOWN_COLOUR]
    return dict(zip(names, few, strict=False)) | ({UNKNOWN: UNKNOWN_COLOUR} if UNKNOWN in there else {})


def _draw_labels(
    ax: "Axes",
    plane: Float[np.ndarray, "cells 2"],
    label: pd.Series,
    here: Bool[np.ndarray, " cells"],
    colours: Mapping[str, Any],
    dots: dict[str, Any],
) -> None:
    order = np.random.default_rng(0).permutation(np.flatnonzero(here))  # no label hides another for its name
    x, y = plane[order].T
    ax.scatter(x, y, c=[colours[name] for name in label.iloc[order]], zorder=2, **dots)


def _draw_legend(
    figure: "Figure", label: pd.Series, asked: Bool[np.ndarray, " cells"], colours: Mapping[str, Any], rows: int
) -> None:
    """Name each label once for both panels, with its cells of the reference and of the query."""
    from matplotlib.lines import Line2D

    known, found = label[~asked].value_counts(), label[asked].value_counts()
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=7, color=colour,
               label=f"{name} ({known.get(name, 0):,} + {found.get(name, 0):,})")
        for name, colour in colours.items()
    ]  # fmt: skip
    figure.legend(
        handles=handles,
        title="(cells of the reference + of the query)",
        loc="outside lower center",
        ncols=-(-len(handles) // rows),
        frameon=False,
        fontsize=9,
    )
