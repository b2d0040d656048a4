"""Cells of an embedding, one dot each."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Float32

from xtrimogene.errors import FieldError
from xtrimogene.tasks.umap_layout import MIN_DISTANCE, NUM_NEIGHBORS, umap_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart by most colour-blind readers; more labels than these get matplotlib's tab20
FEW_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_WHEEL = (*range(0, 14, 2), *range(16, 20, 2), *range(1, 14, 2), *range(17, 20, 2))  # without its greys
GREY = "#D8D8D8"
MOST_LABELS = 60


def umap_coordinates(embedding: Float[np.ndarray, "cells width"], *, seed: int = 0) -> Float32[np.ndarray, "cells 2"]:
    """Lay cells out on a plane by UMAP; a cell without an embedding (a NaN row) stays NaN.

    Distances on the plane are for looking only: what is near is alike, what is far says little.
    """
    known = np.isfinite(embedding).all(axis=1)
    plane = np.full((len(embedding), 2), np.nan, np.float32)
    num_known = int(known.sum())
    if num_known < 5:
        raise FieldError(f"{num_known} cells have an embedding; at least 5 are needed for a UMAP.")
    layout = umap_class()(
        n_neighbors=min(NUM_NEIGHBORS, num_known - 1), min_dist=MIN_DISTANCE, random_state=seed, n_jobs=1
    )
    plane[known] = layout.fit_transform(embedding[known])
    return plane


def embedding(
    adata: AnnData,
    color: str | None = None,
    *,
    key: str = "X_xtrimogene",
    title: str | None = None,
    ax: "Axes | None" = None,
    seed: int = 0,
) -> "Axes":
    """Draw the cells of an embedding, one dot each.

    Parameters
    ----------
    adata
        With ``obsm[key]``, as `xtrimogene.tl.embed` writes it.
    color
        A column of ``obs``: labels, or numbers. Cells without a value are grey and lie below the others.
    key
        Two columns are drawn as they are; more are laid out by UMAP first (`umap_coordinates`, seconds per
        thousand cells: keep its result in ``obsm`` to draw it several times).
    ax
        Where to draw. Default: a new figure.
    seed
        Of the UMAP layout.

    Returns
    -------
    The axes; ``ax.figure.savefig("cells.png")`` keeps the picture.

    Raises
    ------
    FieldError
        ``obsm`` has no such key, or ``obs`` no such column.
    """
    if key not in adata.obsm:
        there = ", ".join(adata.obsm) or "nothing"
        raise FieldError(f"adata.obsm has no {key!r}, it has {there}; call xtrimogene.tl.embed(adata) first.")
    labels = None if color is None else obs_column(adata, color)
    values = np.asarray(adata.obsm[key])
    plane = values if values.shape[1] == 2 else umap_coordinates(values, seed=seed)
    if ax is None:
        ax = new_axes(7.0, 5.0)
    _draw(ax, plane, labels)
    ax.set(xticks=[], yticks=[], title=title if title is not None else (color or ""))
    ax.spines[:].set_visible(False)
    return ax


def obs_column(adata: AnnData, key: str) -> pd.Series:
    """Return a column of ``obs``, or say which there are."""
    if key not in adata.obs:
        there = ", ".join(map(str, adata.obs.columns)) or "no column"
        raise FieldError(f"adata.obs has no column {key!r}; it has {there}.")
    return adata.obs[key]


def new_axes(width: float, height: float) -> "Axes":
    """Return the axes of a new figure, so many inches wide and high."""
    from matplotlib import pyplot

    ax: Axes = pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    return ax


def dot_style(number: int) -> dict[str, Any]:
    """Return how so many cells are drawn."""
    return {"s": float(np.clip(12_000 / max(number, 1), 2, 24)), "linewidths": 0, "rasterized": True}


def _draw(ax: "Axes", plane: Float[np.ndarray, "cells 2"], values: pd.Series | None) -> None:
    dots = dot_style(len(plane))
    if values is None:
        ax.scatter(*plane.T, color=FEW_COLOURS[0], **dots)
        return
    missing = values.isna().to_numpy()
    ax.scatter(*plane[missing].T, color=GREY, zorder=1, **dots)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        x, y = plane[~missing].T
        drawn = ax.scatter(x, y, c=values[~missing].to_numpy(float), cmap="viridis", zorder=2, **dots)
        assert ax.figure is not None
        ax.figure.colorbar(drawn, ax=ax, shrink=0.6, label=str(values.name))
        return
    _draw_labels(ax, plane, values.astype("category"), dots)


def _draw_labels(ax: "Axes", plane: Float[np.ndarray, "cells 2"], labels: pd.Series, dots: dict[str, Any]) -> None:
    from matplotlib.lines import Line2D

    names = [str(name) for name in labels.cat.categories]
    if len(names) > MOST_LABELS:
        raise FieldError(
            f"{labels.name!r} has {len(names):,} different labels; at most {MOST_LABELS} can be told apart."
        )
    colours = label_colours(len(names))
    codes = labels.cat.codes.to_numpy()
    order = np.random.default_rng(0).permutation(np.flatnonzero(codes >= 0))  # no label hides another for its name
    x, y = plane[order].T
    ax.scatter(x, y, c=[colours[code] for code in codes[order]], zorder=2, **dots)
    number = pd.Series(codes).value_counts()
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=7, color=colour, label=f"{name} ({number.get(code, 0):,})")
        for code, (name, colour) in enumerate(zip(names, colours, strict=True))
        if number.get(code, 0)
    ]
    if (codes < 0).any():
        handles.append(Line2D([], [], marker="o", linestyle="", markersize=7, color=GREY, label="no label"))
    columns = 1 + (len(handles) - 1) // 20
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, ncols=columns, fontsize=9)


def label_colours(number: int) -> list[Any]:
    """Return so many colours, apart from grey."""
    import matplotlib

    if number <= len(FEW_COLOURS):
        return list(FEW_COLOURS[:number])
    if number <= len(_WHEEL):
        wheel = matplotlib.colormaps["tab20"]
        return [wheel(place) for place in _WHEEL[:number]]
    wheel = matplotlib.colormaps["gist_rainbow"]
    return [wheel(place / number) for place in range(number)]
