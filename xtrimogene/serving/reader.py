"""From the bytes of a request to counts over the genes of a model; runs in a `Child`, as bodies are not trusted."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool
from scipy.sparse import csr_matrix

from xtrimogene.data.blocks import open_cells
from xtrimogene.data.counts import CountsChoice, InputKind, SampleKind, to_counts
from xtrimogene.data.gene_report import GeneReport
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import FileFormatError, GeneMatchError
from xtrimogene.serving.child import Handler
from xtrimogene.serving.json_cells import JSON, read_json_cells
from xtrimogene.serving.limits import Limits
from xtrimogene.serving.wire import ModelGenes, WireCells, read_cells

ReadAs = Literal["counts", "log1p", "values", "bulk"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Unread:
    """A body, and how it is to be read: ``matched`` to the model's genes, or as it is."""

    body: bytes
    media_type: str
    model: str
    matched: bool = True
    input_kind: InputKind = "auto"
    kind: SampleKind = "single_cell"
    min_genes: int = 200
    genes: tuple[str, ...] | None = None  # that are asked for


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Matched:
    """Cells over the model's genes, as `Inference` takes them, and how they were read.

    Where the genes came as the model's own there is nothing to report: whoever matched them knows.
    """

    counts: csr_matrix
    names: Sequence[str] | None
    measured: Bool[np.ndarray, " G"]
    read_as: ReadAs
    report: GeneReport | None
    places: tuple[int, ...] | None  # of the genes asked for
    warnings: tuple[str, ...]


def build_reader(vocabularies: Mapping[str, GeneVocabulary], limits: Limits) -> Handler[Unread, Matched | AnnData]:
    """Return what reads bodies for models with these genes, by the name they are served under; runs in a `Child`."""

    def handle(unread: Unread) -> Matched | AnnData:
        cells = (read_json_cells if unread.media_type == JSON else read_cells)(unread.body, limits)
        if not cells.counts.shape[0]:
            raise FileFormatError("The body holds no cell; send at least one.")
        genes = vocabularies[unread.model]
        if isinstance(cells.genes, ModelGenes):
            require_genes(cells.genes, genes, unread.model)
        return match(cells, genes, unread) if unread.matched else to_anndata(cells, genes)

    return handle


def match(cells: WireCells, genes: GeneVocabulary, unread: Unread) -> Matched:
    """Find the counts and their genes, as `xtrimogene.tl.embed` does.

    Raises
    ------
    CountsError, GeneMatchError
        As `xtrimogene.tl.embed`.
    """
    places = None if unread.genes is None else tuple(genes.places(unread.genes).tolist())
    if isinstance(cells.genes, ModelGenes):
        read_as: ReadAs = "values" if unread.input_kind == "log1p" else "bulk" if unread.kind == "bulk" else "counts"
        choice = CountsChoice(matrix="The body", input_kind=read_as, reason="as was said")
        counts = to_counts(cells.counts, choice)
        return Matched(
            counts=counts,
            names=cells.names,
            measured=cells.genes.measured,
            read_as=read_as,
            report=None,
            places=places,
            warnings=(),
        )
    with warnings.catch_warnings(record=True) as caught, open_cells(to_anndata(cells, genes)) as blocks:
        warnings.simplefilter("always", UserWarning)
        found = MatchedCounts.find(blocks, genes, input_kind=unread.input_kind, kind=unread.kind)
        found.require(min_genes=unread.min_genes, all_rows=True)
        matrix = found.all()
        report = found.report()
    return Matched(
        counts=matrix,
        names=cells.names,
        measured=found.match.measured,
        read_as=found.choice.input_kind,
        report=report,
        places=places,
        warnings=tuple(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)),
    )


def to_anndata(cells: WireCells, genes: GeneVocabulary) -> AnnData:
    """Return the cells as whoever sent them has them; rows are numbered, as names, in ``obs["cell"]``, may be alike."""
    counts = cells.counts
    if isinstance(cells.genes, ModelGenes):
        columns = {"symbol": list(genes.symbols), "ensembl_id": list(genes.ensembl_ids)}
        var = pd.DataFrame(columns, index=pd.Index(genes.symbols))[cells.genes.measured]
        counts = counts[:, cells.genes.measured]
    else:
        columns = {name: list(column) for name, column in cells.genes.items()}
        first = "var_names" if "var_names" in columns else next(iter(columns))
        var = pd.DataFrame(columns, index=pd.Index(columns[first])).drop(columns=first)
    names = {} if cells.names is None else {"cell": list(cells.names)}
    return AnnData(counts, obs=pd.DataFrame(names, index=list(map(str, range(counts.shape[0])))), var=var)


def require_genes(sent: ModelGenes, genes: GeneVocabulary, model: str) -> None:
    """Refuse genes of another model.

    Raises
    ------
    GeneMatchError
        They are.
    """
    if sent.sha256 != genes.sha256 or len(sent.measured) != len(genes):
        raise GeneMatchError(
            f"The body says that its genes are those of {model!r} and their sha256 differs; match them with "
            f"/v1/models/{model}/genes, or send their names."
        )
