"""Genes that are tied, around some of them, and which gene sets their modules hold."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from xtrimogene.errors import FieldError, GeneMatchError
from xtrimogene.pl.embedding import FEW_COLOURS, GREY, new_axes
from xtrimogene.tasks.gene_network.modules import graph_package

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_EDGES = 200


def network(
    edges: pd.DataFrame,
    genes: Sequence[str],
    *,
    group: str | None = None,
    top: int = 40,
    ax: "Axes | None" = None,
    title: str | None = None,
    seed: int = 0,
) -> "Axes":
    """Draw the heaviest edges around some genes: wider is heavier, and these genes are coloured.

    Parameters
    ----------
    edges
        From `xtrimogene.tl.gene_network`.
    genes
        Symbols, as they stand in ``edges``; an edge is drawn where it has one of them at an end.
    group
        Of which group of cells. Default: the only one there is.
    top
        Edges drawn, up to 200.
    ax
        Where to draw. Default: a new figure.

    Raises
    ------
    MissingExtraError
        igraph, which lays the genes out, is not installed: pip install 'xtrimogene[graph]'.
    FieldError
        ``edges`` is no table of edges, or has not this group, or several and none is named.
    GeneMatchError
        One of the genes has no edge there.
    """
    drawn = _around(_of_group(edges, group), genes).nlargest(min(top, MOST_EDGES), "weight")
    names = list(dict.fromkeys([*drawn["source"], *drawn["target"]]))
    place = {name: number for number, name in enumerate(names)}
    ends = np.stack([drawn[end].map(place).to_numpy() for end in ("source", "target")], axis=1)
    plane = _layout(len(names), ends, seed)
    if ax is None:
        ax = new_axes(6.4, 5.6)
    from matplotlib.collections import LineCollection

    weight = drawn["weight"].to_numpy(dtype=float)
    widths = 0.6 + 3.4 * (weight - weight.min()) / max(np.ptp(weight), 1e-12)
    ax.add_collection(LineCollection(list(plane[ends]), linewidths=widths.tolist(), colors=GREY, zorder=1))
    named = np.isin(names, list(genes))
    across, up = plane.T
    ax.scatter(across, up, s=np.where(named, 160, 60), c=[FEW_COLOURS[0] if own else "white" for own in named],
               edgecolors=FEW_COLOURS[0], zorder=2)  # fmt: skip
    for name, (x, y), own in zip(names, plane, named, strict=True):
        ax.annotate(name, (x, y), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8,
                    fontweight="bold" if own else "normal", zorder=3)  # fmt: skip
    ax.set_title(title if title is not None else ("" if group is None else group))
    ax.margins(0.12)
    ax.set_axis_off()
    return ax


def enrichment(table: pd.DataFrame, *, top: int = 3, ax: "Axes | None" = None, title: str = "") -> "Axes":
    """Draw which gene sets modules hold more of than by chance: larger is more of the set, darker a smaller p.

    Parameters
    ----------
    table
        ``enrichment`` of what `xtrimogene.tl.gene_modules` returned.
    top
        Sets of each module, those with the smallest p.
    ax
        Where to draw. Default: a new figure.

    Raises
    ------
    FieldError
        It is no such table, or no set is in it.
    """
    missing = {"module", "gene_set", "overlap", "set_size", "adjusted_p"} - set(table.columns)
    if missing or table.empty:
        raise FieldError(
            f"the table has {'no ' + ', '.join(sorted(missing)) if missing else 'no gene set'}; give the enrichment "
            "that xtrimogene.tl.gene_modules found, with gene_sets=."
        )
    best = table.sort_values("adjusted_p", kind="stable").groupby("module", sort=True).head(top)
    names = list(dict.fromkeys(best.sort_values(["module", "adjusted_p"], kind="stable")["gene_set"]))
    shown = table[table["gene_set"].isin(names)]
    modules = sorted(shown["module"].unique())
    if ax is None:
        longest = max(map(len, names))
        ax = new_axes(3.0 + 0.085 * longest + 0.34 * len(modules), 2.2 + 0.26 * len(names))
    share = (shown["overlap"] / shown["set_size"]).to_numpy(dtype=float)
    strength = -np.log10(shown["adjusted_p"].to_numpy(dtype=float).clip(min=1e-300))
    x, y = shown["module"].map(modules.index), shown["gene_set"].map(names.index)
    dots = ax.scatter(x, y, s=20 + 240 * share, c=strength, cmap="Blues", vmin=0, edgecolors="black", linewidths=0.4)
    ax.set_xticks(range(len(modules)), [str(module) for module in modules])
    ax.set_yticks(range(len(names)), names)
    ax.set_title(title, pad=44)
    ax.set(xlabel="module", xlim=(-0.6, len(modules) - 0.4), ylim=(len(names) - 0.4, -0.6))
    ax.grid(alpha=0.3)
    ax.set_axisbelow(True)
    assert ax.figure is not None
    ax.figure.colorbar(dots, ax=ax, shrink=0.7, label="-log10 adjusted p")
    _size_legend(ax)
    return ax


def _size_legend(ax: "Axes") -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker="o", linestyle="", color=GREY, markersize=float(np.sqrt(20 + 240 * share)), label=label)
        for share, label in ((0.1, "10 %"), (0.5, "50 %"))
    ]
    ax.legend(handles=handles, title="of the set", loc="lower left", bbox_to_anchor=(0, 1.01), frameon=False, ncols=2)


def _of_group(edges: pd.DataFrame, group: str | None) -> pd.DataFrame:
    missing = {"source", "target", "weight", "group"} - set(edges.columns)
    if missing:
        raise FieldError(f"edges has no {', '.join(sorted(missing))}; give what xtrimogene.tl.gene_network returned.")
    there = edges["group"].unique().tolist()
    if group is None and len(there) != 1:
        raise FieldError(f"edges has {len(there)} groups; name one of them with group=.")
    if group is not None and group not in there:
        raise FieldError(f"edges has no group {group!r}; it has {', '.join(map(str, there))}.")
    return edges if group is None else edges[edges["group"] == group]


def _around(edges: pd.DataFrame, genes: Sequence[str]) -> pd.DataFrame:
    if isinstance(genes, str) or not len(genes):
        raise GeneMatchError(f"genes={genes!r}: a list of symbols is needed, such as ['TBX21'].")
    without = [gene for gene in genes if not (edges["source"].eq(gene) | edges["target"].eq(gene)).any()]
    if without:
        raise GeneMatchError(f"{', '.join(without)}: no edge here; leave it out, or ask for more edges with top=.")
    kept = edges[edges["source"].isin(genes) | edges["target"].isin(genes)]
    ends = np.sort(kept[["source", "target"]].to_numpy(dtype=str), axis=1)
    return kept[~pd.DataFrame(ends).duplicated().to_numpy()]  # both ways are one line


def _layout(number: int, ends: np.ndarray, seed: int) -> Float[np.ndarray, "n 2"]:
    igraph: Any = graph_package()
    start = np.random.default_rng(seed).normal(size=(number, 2)).tolist()
    graph = igraph.Graph(n=number, edges=ends.tolist())
    return np.array(graph.layout_kamada_kawai(seed=start).coords)
