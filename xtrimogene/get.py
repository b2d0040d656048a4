"""Arrays out of a model: nothing is written into the AnnData."""

import math
import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import numpy as np
from anndata import AnnData
from jaxtyping import Bool, Float32

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.cell_hashes import are_among, gene_keys, hash_cells
from xtrimogene.data.cell_ontology import CellOntology
from xtrimogene.data.counts import InputKind, SampleKind
from xtrimogene.data.gene_panels import panels_of_batches
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.data.read_depth import ReadDepth
from xtrimogene.errors import CheckpointError, ConfigError
from xtrimogene.inference import Inference, readable_cells
from xtrimogene.long_work import progress_bar

Through = Literal["decoder", "latent"]
_BLOCK_BYTES = 256 << 20  # of the result, made at once


def cell_ontology_ids(names: Iterable[object]) -> dict[str, str]:
    """Find names of cell types in the Cell Ontology, offline: {"T cell": "CL:0000084"}.

    Parameters
    ----------
    names
        As the ontology has them, or a synonym of one of its types alone, but for types that only another species has;
        upper and lower case are one. What is no text, such as a missing value, is passed over. Look the ids over:
        "P cell" is one name of a cell of the heart.

    Returns
    -------
    The ids of those that are found; ``adata.obs["cell_type"].map(ids)`` is a column for `xtrimogene.tl.annotate`.

    Raises
    ------
    MissingExtraError
        The package cellxgene-ontology-guide is not installed.
    """
    return CellOntology().find(names)


def gene_embeddings(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    *,
    genes: Sequence[str] | None = None,
    read_depth: str | None = None,
    layer: str | None = None,
    input_kind: InputKind = "auto",
    kind: SampleKind = "single_cell",
    joined_by: str | None = None,
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    max_gigabytes: float = 8.0,
    progress: bool = True,
) -> Float32[np.ndarray, "cells genes width"]:
    """Return the context embedding of genes in each cell: what the decoder knows before it predicts.

    Parameters
    ----------
    adata, model, read_depth, layer, input_kind, kind, device, token_budget, min_genes
        As in `xtrimogene.tl.embed`.
    genes
        Symbols or Ensembl ids. Default: all genes of the model, in its order (``model.genes.symbols``).
    joined_by
        For cells of several batches that measured other genes each, joined with zeros: the column of obs that names
        the batch. A gene without a count in a batch is then unknown there, not zero.
    max_gigabytes
        Refuse a larger result: all genes of a few thousand cells fill a machine.

    Returns
    -------
    Cells x genes x decoder width; NaN for a cell without counts in the model's genes.

    Raises
    ------
    GeneMatchError
        A name in ``genes`` is none of the model's, or the data has too little in common with the model.
    FieldError
        There is no column ``joined_by``.
    ConfigError
        The result would be larger than ``max_gigabytes``.
    """
    return _decode(
        "gene_embeddings",
        adata,
        load(model),
        genes,
        read_depth=read_depth,
        layer=layer,
        input_kind=input_kind,
        kind=kind,
        joined_by=joined_by,
        device=device,
        token_budget=token_budget,
        min_genes=min_genes,
        max_gigabytes=max_gigabytes,
        progress=progress,
    )


def expression(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    *,
    genes: Sequence[str] | None = None,
    read_depth: str | None = None,
    layer: str | None = None,
    input_kind: InputKind = "auto",
    kind: SampleKind = "single_cell",
    joined_by: str | None = None,
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    through: Through | None = None,
    max_gigabytes: float = 8.0,
    progress: bool = True,
) -> Float32[np.ndarray, "cells genes"]:
    """Return the expression that the model predicts for genes in each cell, as log1p of counts per 10,000.

    With ``read_depth`` above the cell's own, such as "f2", it predicts what deeper sequencing would have seen.
    Training weighs a gene's zeros and non-zeros alike, so a gene that most cells miss is predicted above its mean:
    compare cells, or genes, rather than levels.

    Parameters
    ----------
    through
        "latent": every gene is predicted from the cell's latent vector alone, so a gene that was not measured, or not
        caught, is answered as any other. "decoder": the decoder reads all genes of the cell, as in scFoundation.
        Default: "latent" where the model has a latent vector (our demo model), else "decoder".

    The other parameters and errors are those of `gene_embeddings`; ``joined_by`` is for the decoder alone.
    """
    chosen = load(model)
    if through is None:
        through = "decoder" if chosen.config.latent_dim is None else "latent"
    if through not in get_args(Through):
        raise ConfigError(f"through={through!r} is not one of {', '.join(get_args(Through))}.")
    if through == "latent" and joined_by is not None:
        raise ConfigError(
            "joined_by tells the decoder which genes are unknown, and the latent vector takes none for a zero; leave "
            "it out, or set through='decoder'."
        )
    return _decode(
        "expression" if through == "decoder" else "expression_from_latent",
        adata,
        chosen,
        genes,
        read_depth=read_depth,
        layer=layer,
        input_kind=input_kind,
        kind=kind,
        joined_by=joined_by,
        device=device,
        token_budget=token_budget,
        min_genes=min_genes,
        max_gigabytes=max_gigabytes,
        progress=progress,
    )


def _decode(
    what: Literal["gene_embeddings", "expression", "expression_from_latent"],
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel,
    genes: Sequence[str] | None,
    *,
    read_depth: str | None,
    layer: str | None,
    input_kind: InputKind,
    kind: SampleKind,
    joined_by: str | None,
    device: str | None,
    token_budget: int | None,
    min_genes: int,
    max_gigabytes: float,
    progress: bool,
) -> np.ndarray:
    inference = Inference(model, device=device, token_budget=token_budget)
    compute = getattr(inference, what)
    depth = read_depth or model.config.read_depth
    ReadDepth.parse(depth)
    places = None if genes is None else model.genes.places(genes)
    num_genes = len(model.genes) if places is None else len(places)
    shape = (num_genes, model.config.decoder.dim) if what == "gene_embeddings" else (num_genes,)
    with open_cells(adata) as cells:
        counts = MatchedCounts.find(cells, model.genes, layer=layer, input_kind=input_kind, kind=kind)
        _check_size((cells.num_cells, *shape), max_gigabytes)
        counts.require(min_genes=min_genes, all_rows=isinstance(adata, AnnData))
        measured, panel = counts.match.measured, np.zeros(cells.num_cells, dtype=np.int64)
        if joined_by is not None:
            measured, panel = panels_of_batches(counts.blocks(), measured, cells.obs_column(joined_by))
        result = np.full((cells.num_cells, *shape), np.nan, np.float32)
        num_unread = 0
        with progress_bar("Decoding cells", cells.num_cells, shown=progress) as advance:
            asked: dict[str, Any] = {"genes": places, "read_depth": depth, "normalized": counts.normalized}
            for start, block in counts.blocks(max_cells=max(1, _BLOCK_BYTES // max(1, 4 * math.prod(shape)))):
                rows = slice(start, start + block.shape[0])
                known = {} if what == "expression_from_latent" else {"measured": measured, "panel": panel[rows]}
                result[rows] = compute(block, **asked, **known, progress=advance)
                unread = int((~readable_cells(block)).sum())
                num_unread += unread
                advance(unread)
        counts.report()
    if num_unread:
        warnings.warn(
            f"{num_unread:,} of {len(result):,} cells have no counts to read in the model's genes; theirs are NaN.",
            UserWarning,
            stacklevel=3,
        )
    return result


def _check_size(shape: tuple[int, ...], max_gigabytes: float) -> None:
    gigabytes = 4 * math.prod(shape) / 1e9
    if gigabytes > max_gigabytes:
        raise ConfigError(
            f"The result would have {' x '.join(f'{size:,}' for size in shape)} numbers, {gigabytes:,.1f} GB, and "
            f"at most {max_gigabytes:g} GB are allowed (max_gigabytes): name them in genes= or give fewer cells."
        )


def was_seen(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    *,
    layer: str | None = None,
    input_kind: InputKind = "auto",
    min_genes: int = 200,
    progress: bool = True,
) -> Bool[np.ndarray, "cells"]:
    """Say of each cell whether it was in the data that the model was trained on.

    A cell is recognized by its counts in the model's genes, whatever file it comes in and in whatever order. One whose
    counts were changed is not: genes left out, ambient RNA taken away, reads aligned anew. So False says that these
    very counts were not in the data. All cells of the data count, also where a run ended within its first epoch.

    Parameters
    ----------
    adata, model, layer, min_genes
        As in `xtrimogene.tl.embed`.
    input_kind
        "auto" or "counts": values taken as they are cannot be recognized.

    Raises
    ------
    CheckpointError
        It is not known which cells the model was trained on.
    ConfigError
        ``input_kind="log1p"``.
    """
    if input_kind == "log1p":
        raise ConfigError("was_seen compares counts; input_kind='log1p' has none, use 'auto' or 'counts'.")
    loaded = load(model)
    known = loaded.cell_hashes
    if known is None:
        raise CheckpointError(
            f"{loaded!r} does not say which cells it was trained on; its card may name the data: model.card."
        )
    keys = gene_keys(loaded.genes)
    with open_cells(adata) as cells:
        matched = MatchedCounts.find(cells, loaded.genes, layer=layer, input_kind=input_kind)
        matched.require(min_genes=min_genes, all_rows=False)
        seen = np.zeros(cells.num_cells, dtype=bool)
        with progress_bar("Cells", cells.num_cells, shown=progress) as advance:
            for start, block in matched.blocks():
                seen[start : start + block.shape[0]] = are_among(hash_cells(block, keys), known)
                advance(block.shape[0])
    return seen
