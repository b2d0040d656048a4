"""Labels beside the truth: which are taken for which, and whether cells labelled with 80 % are right in 80 %."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Float

from xtrimogene.data.blocks import open_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import FieldError, GeneMatchError
from xtrimogene.evaluation.baselines import log_normalize
from xtrimogene.evaluation.metrics import calibration_bins, calibration_error
from xtrimogene.pl.embedding import FEW_COLOURS, GREY, new_axes, obs_column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LABELS = 40


def confusion(
    adata: AnnData, truth: str, predicted: str = "xtrimogene_label", *, ax: "Axes | None" = None, title: str = ""
) -> "Axes":
    """Draw what share of the cells of each true label got each predicted one; a row is a true label and adds up to 1.

    Parameters
    ----------
    adata
        With both columns in ``obs``; cells that lack either are left out.
    truth, predicted
        Columns of labels.
    ax
        Where to draw. Default: a new figure.

    Raises
    ------
    FieldError
        No such column, no cell that has both, or more than 40 labels.
    """
    true, found = _labels(adata, truth), _labels(adata, predicted)
    both = (true.notna() & found.notna()).to_numpy()
    counts = pd.crosstab(true[both].to_numpy(str), found[both].to_numpy(str))
    if counts.empty:
        raise FieldError(f"no cell has both {truth!r} and {predicted!r}; nothing can be compared.")
    if max(counts.shape) > MOST_LABELS:
        raise FieldError(f"{max(counts.shape)} labels cannot be told apart here; at most {MOST_LABELS} can.")
    shared = [name for name in counts.index if name in counts.columns]
    others = [name for name in counts.columns if name not in counts.index]
    counts = counts[[*shared, *others]].loc[[*shared, *(name for name in counts.index if name not in counts.columns)]]
    shares = counts.div(counts.sum(axis=1), axis=0).to_numpy()
    if ax is None:
        ax = new_axes(2.6 + 0.42 * counts.shape[1], 1.8 + 0.34 * counts.shape[0])
    drawn = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in zip(*np.nonzero(shares >= 0.05), strict=True):
        colour = "white" if shares[row, column] > 0.6 else "black"
        ax.text(column, row, f"{shares[row, column]:.2f}"[1:] if shares[row, column] < 0.995 else "1", color=colour,
                ha="center", va="center", fontsize=8)  # fmt: skip
    ax.set_xticks(range(counts.shape[1]), counts.columns, rotation=45, ha="right", rotation_mode="anchor")
    rows = [f"{name} ({number:,})" for name, number in counts.sum(axis=1).items()]
    ax.set_yticks(range(counts.shape[0]), rows)
    ax.set(xlabel=predicted, ylabel=truth, title=title)
    assert ax.figure is not None
    ax.figure.colorbar(drawn, ax=ax, shrink=0.7, label="share of the true label's cells")
    return ax


def calibration(
    adata: AnnData,
    truth: str,
    *,
    key: str = "xtrimogene",
    ax: "Axes | None" = None,
    title: str | None = None,
) -> "Axes":
    """Draw how often labels are right at each confidence, and how many cells have it; on the diagonal, it holds.

    Parameters
    ----------
    adata
        As `xtrimogene.tl.annotate` leaves it. Cells that it calls unknown, and those without a true label, are left
        out: confidence is that of the best label among those of the reference.
    truth
        Column of true labels.
    key
        How the columns begin.

    Raises
    ------
    FieldError
        No such column, or no cell that has a true label and a confidence.
    """
    true, found = _labels(adata, truth), _labels(adata, f"{key}_label")
    confidence = obs_column(adata, f"{key}_confidence").to_numpy(dtype=float)
    used = true.notna().to_numpy() & np.isfinite(confidence) & ~obs_column(adata, f"{key}_unknown").to_numpy(bool)
    if not used.any():
        raise FieldError(f"no cell has both {truth!r} and a confidence; nothing can be compared.")
    right: Bool[np.ndarray, cells] = (true.astype(str) == found.astype(str)).to_numpy()[used]
    confidence = confidence[used]
    bins = calibration_bins(confidence, right)
    number, told, share = np.array([(one.num_cells, one.confidence, one.right) for one in bins]).T
    low, high = _wilson(share, number)
    if ax is None:
        ax = new_axes(5.0, 4.6)
    left, width = [one.low for one in bins], [one.high - one.low for one in bins]
    ax.bar(left, number / number.sum(), width=width, align="edge", color=GREY, label="cells")
    ax.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    ax.errorbar(told, share, yerr=[share - low, high - share], fmt="o-", color=FEW_COLOURS[0], label="right", capsize=2)
    off = calibration_error(confidence, right)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="share")
    ax.set_title(f"{used.sum():,} cells; off by {off:.3f}" if title is None else title)
    ax.legend(frameon=False, loc="upper left")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def markers(
    adata: AnnData,
    genes: Sequence[str] | Mapping[str, Sequence[str]],
    label_key: str = "xtrimogene_label",
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw marker genes by label: a dot's size is the share of cells with the gene, its colour their mean.

    Parameters
    ----------
    adata
        Counts are found, and genes matched, as in `xtrimogene.tl.embed`; the mean is of log1p of counts per 10,000.
    genes
        Symbols or Ensembl ids; a mapping names groups of them, such as ``{"B": ["MS4A1", "CD79A"]}``.
    label_key
        Column of labels; cells without one are left out.

    Raises
    ------
    FieldError
        No such column, or no cell that has a label.
    GeneMatchError
        A gene that is unknown, or that was not measured.
    """
    import scanpy

    labels = _labels(adata, label_key)
    vocabulary = GeneVocabulary.human()
    groups = dict(genes) if isinstance(genes, Mapping) else {"": list(genes)}
    wanted = list(dict.fromkeys(gene for group in groups.values() for gene in group))
    with open_cells(adata) as cells:
        matched = MatchedCounts.find(cells, vocabulary)
        values = log_normalize(matched.all())
        measured = matched.match.measured
    target = vocabulary.match({"gene": wanted}).target
    missing = [gene for gene, place in zip(wanted, target, strict=True) if place < 0 or not measured[place]]
    if missing:
        raise GeneMatchError(f"{', '.join(missing)}: not a human gene we know, or not measured here; leave it out.")
    kept = labels.notna().to_numpy()
    if not kept.any():
        raise FieldError(f"no cell has a label in {label_key!r}; call xtrimogene.tl.annotate first.")
    drawn = AnnData(
        values[kept][:, target],
        obs=pd.DataFrame({label_key: labels[kept].astype(str).astype("category")}),
        var=pd.DataFrame(index=wanted),
    )
    names = wanted if list(groups) == [""] else {name: list(group) for name, group in groups.items()}
    axes = scanpy.pl.dotplot(drawn, names, label_key, show=False, ax=ax, colorbar_title="mean", size_title="cells (%)")
    return axes["mainplot_ax"]


def _wilson(share: Float[np.ndarray, " n"], number: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Return 95 % intervals of shares of so many (Wilson, 1927), which hold the share also where it is 0 or 1."""
    z = 1.96
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z * np.sqrt(share * (1 - share) / number + z**2 / (4 * number**2)) / (1 + z**2 / number)
    return np.minimum(middle - half, share), np.maximum(middle + half, share)


def _labels(adata: AnnData, key: str) -> pd.Series:
    return obs_column(adata, key).astype(object)
