"""Genes before and after denoising, label by label."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData
from jaxtyping import Float
from scipy.sparse import csr_matrix, issparse

from xtrimogene.data.blocks import open_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import FieldError, GeneMatchError
from xtrimogene.evaluation.baselines import log_normalize
from xtrimogene.pl.embedding import FEW_COLOURS, GREY, obs_column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_GENES, MOST_LABELS = 12, 20


def denoised(adata: AnnData, genes: Sequence[str], label_key: str, *, key: str = "xtrimogene_denoised") -> "Figure":
    """Draw the values of a few genes in the cells of each label, before (grey) and after `xtrimogene.tl.denoise`.

    Boxes hold the middle half of the cells and a line at the median, whiskers the cells from 5 % to 95 %. Both are
    log1p of counts per 10,000 of the human genes.

    Parameters
    ----------
    adata
        With the layer ``key`` and the counts it was made of.
    genes
        Symbols or Ensembl ids, up to 12.
    label_key
        Column of ``obs``; cells without a label are left out.

    Raises
    ------
    FieldError
        No such layer or column, no cell with a label, or more than 20 labels, or 12 genes.
    GeneMatchError
        A gene that is unknown, or that was not denoised here.
    """
    labels = obs_column(adata, label_key)
    names = sorted(labels.dropna().astype(str).unique())
    if not 0 < len(names) <= MOST_LABELS or not 0 < len(genes) <= MOST_GENES:
        raise FieldError(
            f"{len(genes)} genes and {len(names)} labels in {label_key!r} cannot be drawn; give 1 to {MOST_GENES} genes"
            f" and 1 to {MOST_LABELS} labels."
        )
    before, after = _before(adata, genes), _after(adata, genes, key)
    import matplotlib.pyplot as plt

    width = min(3, len(genes))
    height = -(-len(genes) // width)
    size = ((1.2 + 0.5 * len(names)) * width, 2.6 * height + 0.8)
    figure, grid = plt.subplots(height, width, squeeze=False, sharex=True, figsize=size, layout="constrained")
    panels = grid.ravel()
    rows = [np.flatnonzero((labels.astype(str) == name).to_numpy() & labels.notna().to_numpy()) for name in names]
    for number, (gene, ax) in enumerate(zip(genes, panels, strict=False)):
        for values, colour, shift in ((before, GREY, -0.2), (after, FEW_COLOURS[0], 0.2)):
            _boxes(ax, [_known(values[of_label, number]) for of_label in rows], colour, shift)
        ax.set_title(gene)
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        ax.spines[["top", "right"]].set_visible(False)
    for ax in panels[len(genes) :]:
        ax.set_visible(False)
    for ax in panels[::width]:
        ax.set_ylabel("log1p of counts per 10,000")
    figure.suptitle("grey: as counted   blue: denoised")
    return figure


def _boxes(ax: "Axes", values: Sequence[Float[np.ndarray, " n"]], colour: str, shift: float) -> None:
    drawn = ax.boxplot(
        values, positions=np.arange(len(values)) + shift, widths=0.34, whis=(5, 95), showfliers=False,
        patch_artist=True, manage_ticks=False, medianprops={"color": "black"},
    )  # fmt: skip
    for box in drawn["boxes"]:
        box.set(facecolor=colour, edgecolor="black", linewidth=0.6)


def _before(adata: AnnData, genes: Sequence[str]) -> Float[np.ndarray, "cells genes"]:
    vocabulary = GeneVocabulary.human()
    places = vocabulary.places(genes)
    with open_cells(adata) as cells:
        return log_normalize(MatchedCounts.find(cells, vocabulary).all())[:, places].toarray()


def _after(adata: AnnData, genes: Sequence[str], key: str) -> Float[np.ndarray, "cells genes"]:
    if key not in adata.layers or key not in adata.uns:
        raise FieldError(f"adata has no layer {key!r} of xtrimogene.tl.denoise; call that first.")
    vocabulary = GeneVocabulary.human()
    with open_cells(adata) as cells:
        columns = {name: column.tolist() for name, column in cells.gene_columns("X").items()}
    target = np.where(adata.var[key].to_numpy(dtype=bool), vocabulary.match(columns).target, -1)
    absent = [gene for gene, place in zip(genes, vocabulary.places(genes), strict=True) if place not in target]
    if absent:
        raise GeneMatchError(f"{', '.join(absent)}: not denoised in these cells; leave it out, or denoise it too.")
    found = [int(np.flatnonzero(target == place)[0]) for place in vocabulary.places(genes)]
    values = adata.layers[key][:, found]
    dense = csr_matrix(values).toarray() if issparse(values) else np.asarray(values)
    options = adata.uns[key]["options"]
    return np.log1p(1e4 * dense / options["target_depth"]) if options["unit"] == "counts" else dense


def _known(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return values[np.isfinite(values)]
