"""One vector per cell, from an AnnData or a file of one."""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Float32
from scipy.sparse import csr_matrix

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.config import EncoderPrecision, ModelConfig, Pool
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.counts import InputKind, SampleKind
from xtrimogene.data.gene_report import GeneReport
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.data.read_depth import ReadDepth
from xtrimogene.errors import CheckpointError, ConfigError
from xtrimogene.inference import CellReader, Inference, readable_cells
from xtrimogene.long_work import progress_bar

EachBlock = Callable[[csr_matrix, Bool[np.ndarray, " G"]], None]


def embed(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    *,
    layer: str | None = None,
    input_kind: InputKind = "auto",
    kind: SampleKind = "single_cell",
    pool: Pool | None = None,
    read_depth: str | None = None,
    key_added: str = "X_xtrimogene",
    device: str | None = None,
    token_budget: int | None = None,
    precision: EncoderPrecision = "float32",
    min_genes: int = 200,
    progress: bool = True,
) -> AnnData:
    """Write one vector per cell into ``adata.obsm[key_added]``; a cell's vector never depends on its neighbours.

    Parameters
    ----------
    adata
        Cells x genes, or the path of an .h5ad or .zarr, which is read in blocks. Counts are looked for in X, in
        layers such as "counts" and in raw; log1p of counts is reversed. Genes are found by symbol or Ensembl id.
    model
        "demo", a checkpoint folder, "hf://owner/name@revision", or what `xtrimogene.load` returned.
    layer
        Use this layer ("X" and "raw" too) instead of looking.
    input_kind
        "auto" takes counts and log1p of counts; "counts" only counts; "log1p" takes the values as they are.
    kind
        "bulk" takes any non-negative linear expression, TPM too.
    pool
        "all", "max", "mean", or "latent", which holds less of read depth, where cells are read at the model's own.
        Default: the model's own.
    read_depth
        The depth asked for, as "t4", "f1" or "a0.5". Default: the model's own.
    key_added
        The key in ``obsm``; the record in ``uns`` has the same key without "X_".
    device
        "cpu", "cuda", "mps". Default: a GPU where there is one.
    token_budget
        Expressed genes read at once; bounds memory and never changes a result.
    precision
        "bfloat16", or "int8" on a CPU, can be faster, with large models and where the processor has instructions for
        it; vectors change by 1 to 4 %, so those of two precisions are not for one analysis.
    min_genes
        Refuse data with fewer genes in common with the model.

    Returns
    -------
    ``adata`` itself, X unchanged. For a path: a new AnnData with obs, obsm and uns, and without X.
    ``uns["xtrimogene"]`` says which model, with which options, and how the genes matched.

    Raises
    ------
    CountsError
        Negative, missing, infinite or scaled values, or fractional ones that are no log1p of counts.
    GeneMatchError
        Too few genes in common with the model, or they carry less than half of the counts.
    FileFormatError
        A file that is missing, damaged or not safe to read.
    ConfigError
        An option that cannot be: a device that is not there, a depth that no cell has, a key that no file can hold.
    CheckpointError
        No such model, or one whose vectors are no numbers.

    Warns
    -----
    UserWarning
        The matched genes carry less than 80 % of the counts; or some cells have no counts in them and get a NaN row.
    """
    record = record_key(key_added)
    loaded = load(model)
    found = read_vectors(
        adata,
        Inference(loaded, device=device, token_budget=token_budget, precision=precision),
        loaded,
        layer=layer,
        input_kind=input_kind,
        kind=kind,
        pool=pool,
        read_depth=read_depth,
        min_genes=min_genes,
        progress=progress,
    )
    warn_of_unread(found)
    return write_vectors(adata, found, key_added, record, precision=precision)


@runtime_checkable
class KnownModel(Protocol):
    """What has to be known of a model to read cells for it: `PretrainedModel`, or one that runs elsewhere."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def genes(self) -> GeneVocabulary: ...

    @property
    def config(self) -> ModelConfig: ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CellVectors:
    """Vectors of the cells of an AnnData or a file, a NaN row where a cell has no counts; ``obs`` is a copy.

    ``measured`` are the genes of the model that were.
    """

    obs: pd.DataFrame
    embedding: Float32[np.ndarray, "N P"]
    measured: Bool[np.ndarray, " G"]
    record: dict[str, Any]
    num_unread: int


def read_vectors(
    adata: AnnData | str | os.PathLike[str],
    inference: CellReader,
    model: KnownModel,
    *,
    layer: str | None = None,
    input_kind: InputKind = "auto",
    kind: SampleKind = "single_cell",
    pool: Pool | None = None,
    read_depth: str | None = None,
    min_genes: int = 200,
    progress: bool = True,
    only: Bool[np.ndarray, " N"] | None = None,
    panel: Bool[np.ndarray, " G"] | None = None,
    each: EachBlock | None = None,
) -> CellVectors:
    """Read, check, match and embed; what other options mean, and what is raised, `embed` says.

    Parameters
    ----------
    only
        The cells to embed; the rows of the others are NaN, and they are not among the unread.
    panel
        Read no other genes, as if they had not been measured.
    each
        Called with the counts of these cells in each block, over the model's genes, and which of those are measured.
    """
    depth, pooled = read_depth or model.config.read_depth, pool or model.config.pool
    ReadDepth.parse(depth)
    num_unread = 0
    with open_cells(adata) as cells:
        counts = MatchedCounts.find(cells, model.genes, layer=layer, input_kind=input_kind, kind=kind)
        counts.require(min_genes=min_genes, all_rows=isinstance(adata, AnnData))
        obs = cells.obs.copy()
        embedding = np.full((cells.num_cells, inference.embedding_dim(pooled)), np.nan, np.float32)
        measured = counts.match.measured if panel is None else counts.match.measured & panel
        number = cells.num_cells if only is None else int(only.sum())
        with progress_bar("Embedding cells", number, shown=progress) as advance:
            for start, block in counts.blocks():
                rows = np.arange(start, start + block.shape[0])
                if only is not None:
                    rows, block = rows[only[rows]], block[only[rows]]
                if panel is not None:
                    block.data[~panel[block.indices]] = 0
                    block.eliminate_zeros()
                if each is not None:
                    each(block, measured)
                embedding[rows] = inference.cell_embeddings(
                    block, pool=pooled, read_depth=depth, normalized=counts.normalized, progress=advance
                )
                unread = int((~readable_cells(block)).sum())
                num_unread += unread
                advance(unread)
        report = counts.report()
    check_vectors(embedding if only is None else embedding[only], num_unread, model.name)
    options: dict[str, Any] = {
        "matrix": counts.choice.matrix,
        "input_kind": input_kind,
        "read_as": counts.choice.input_kind,
        "kind": kind,
        "pool": pooled,
        "read_depth": depth,
        "min_genes": min_genes,
    }
    return CellVectors(
        obs=obs,
        embedding=embedding,
        measured=measured,
        record=reading_record(model.name, model.sha256, options, report),
        num_unread=num_unread,
    )


def write_vectors(
    adata: AnnData | str | os.PathLike[str],
    found: CellVectors,
    key_added: str,
    record: str,
    *,
    precision: EncoderPrecision,
) -> AnnData:
    """Write what was found into an AnnData, a new one for a path, and say in ``uns[record]`` how."""
    written = adata if isinstance(adata, AnnData) else AnnData(obs=found.obs)
    written.obsm[key_added] = found.embedding
    written.uns[record] = found.record | {"options": found.record["options"] | {"precision": precision}}
    return written


def warn_of_unread(found: CellVectors, then: str = "; their rows are NaN") -> None:
    """Warn whoever called the caller, and say what becomes of the cells."""
    if found.num_unread:
        warnings.warn(
            f"{found.num_unread:,} of {len(found.embedding):,} cells have no counts in the model's genes{then}.",
            UserWarning,
            stacklevel=3,
        )


def require_model(made: Mapping[str, Any], model: PretrainedModel, what: str, remedy: str) -> None:
    """Refuse a model other than the one in this record of vectors, which ``what`` holds.

    Raises
    ------
    CheckpointError
        It is another.
    """
    if made["sha256"] != model.sha256:
        raise CheckpointError(
            f"{what} vectors of {made['model']!r} (sha256 {made['sha256'][:12]}...), not of {model.name!r} "
            f"({model.sha256[:12]}...); give that model, or {remedy}."
        )


def reading_record(name: str, sha256: str, options: dict[str, Any], report: GeneReport) -> dict[str, Any]:
    """Say which model, how it was used and how the genes matched, in types that .h5ad holds."""
    genes = report.as_dict()
    genes["summed"] = [f"{' + '.join(names)} = {gene}" for gene, names in report.summed.items()]
    return {
        "model": name,
        "sha256": sha256,
        "options": options,
        "genes": {name: value for name, value in genes.items() if value is not None and value != []},
        "version": version("xtrimogene"),
    }


def record_key(key_added: str) -> str:
    """Return the key in ``uns`` that belongs to one in ``obsm``; both have to be names that a file can hold."""
    key = key_added.removeprefix("X_")
    if "/" in key or key in ("", ".", ".."):
        raise ConfigError(
            f"key_added={key_added!r} cannot be written to a file; a name such as 'X_xtrimogene' is needed."
        )
    return key


def check_vectors(embedding: Float32[np.ndarray, "N P"], num_unread: int, model: str) -> None:
    """Refuse vectors that are no numbers, but for those of cells that were not read.

    Raises
    ------
    CheckpointError
        There are such.
    """
    num_bad = int((~np.isfinite(embedding).all(axis=1)).sum()) - num_unread
    if num_bad:
        raise CheckpointError(
            f"The vectors of {num_bad:,} of {len(embedding):,} cells are no finite numbers: the weights of "
            f"{model!r} are not those of a model that was trained to the end."
        )
