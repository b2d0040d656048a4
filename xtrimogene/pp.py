"""Preparation: `check` says what cells hold, what of it would be used, and what embedding them costs."""

import os
import sys
import textwrap
import time
import warnings
from dataclasses import dataclass

import numpy as np
from anndata import AnnData
from jaxtyping import Bool
from scipy.sparse import csr_matrix, vstack

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.data.blocks import CellBlocks, open_cells
from xtrimogene.data.cell_hashes import are_among, gene_keys, hash_cells
from xtrimogene.data.counts import CountsChoice, InputKind, SampleKind
from xtrimogene.data.gene_report import GeneReport
from xtrimogene.data.matched_counts import SAMPLE_ROWS, MatchedCounts
from xtrimogene.data.value_checks import common_total, inspect
from xtrimogene.data.value_words import describe
from xtrimogene.errors import CountsError, FieldError, GeneMatchError
from xtrimogene.inference import Inference, readable_cells

_LOOKED_AT = 2_000  # rows of each matrix
_PROBE_SECONDS = 2.0
_MOST_PROBED = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixFinding:
    """One matrix of the source, in words."""

    name: str
    num_columns: int
    holds: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CostEstimate:
    """Time and memory to embed all cells, from really embedding some of them.

    ``memory`` is the largest this process has been, plus the result, in bytes; None where the system does not say.
    """

    device: str
    num_probed: int
    seconds: float
    memory: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckReport:
    """What `check` found; its text is 80 columns wide. ``problem`` says why cells cannot be embedded, or is None."""

    source: str
    num_cells: int
    matrices: tuple[MatrixFinding, ...]
    choice: CountsChoice | None
    model: str
    num_model_genes: int
    genes: GeneReport | None
    num_looked_at: int
    num_unreadable: int  # of the cells looked at
    num_compared: int  # with the cells that the model was trained on, as `xtrimogene.was_seen` does
    num_seen: int  # of those compared
    cost: CostEstimate | None
    remarks: tuple[str, ...]
    problem: str | None

    @property
    def findings(self) -> str:
        """The text without the problem."""
        lines = [_row("cells", f"{self.num_cells:,} in {self.source}")]
        lines += [_row(matrix.name, f"{matrix.num_columns:,} genes; {matrix.holds}") for matrix in self.matrices]
        if self.choice is not None:
            lines.append(_row("used", self.choice.reason))
        lines.append(_row("model", f"{self.model}, {self.num_model_genes:,} genes"))
        if self.genes is not None:
            lines.append(str(self.genes))
            lines.append(_row("unreadable", self._unreadable()))
        if self.num_compared:
            lines.append(_row("seen", self._seen()))
        if self.cost is not None:
            lines.append(_row("time", _time_text(self.cost)))
        if self.cost is not None and self.cost.memory is not None:
            lines.append(_row("memory", f"about {self.cost.memory / 1e9:.1f} GB, the program and the result together"))
        return "\n".join([*lines, *(_row("note", remark) for remark in self.remarks)])

    def __str__(self) -> str:
        return self.findings if self.problem is None else f"{self.findings}\n{_row('problem', self.problem)}"

    def _unreadable(self) -> str:
        where = "cells" if self.num_looked_at == self.num_cells else f"{self.num_looked_at:,} cells looked at"
        if not self.num_unreadable:
            return f"none of the {where}"
        return f"{self.num_unreadable:,} of the {where} have no counts in the model's genes and would get a NaN row"

    def _seen(self) -> str:
        if not self.num_seen:
            return f"none of {self.num_compared:,} cells compared is in the data that the model was trained on"
        return (
            f"{self.num_seen:,} of {self.num_compared:,} cells compared are in the data that the model was trained on: "
            "results on them are no test of it; which ones, xt.was_seen says"
        )


def check(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    *,
    layer: str | None = None,
    input_kind: InputKind = "auto",
    kind: SampleKind = "single_cell",
    min_genes: int = 200,
    device: str | None = None,
) -> CheckReport:
    """Look at cells as `xtrimogene.tl.embed` would, embed a few of them, and report; nothing is changed.

    Parameters
    ----------
    adata, model, layer, input_kind, kind, min_genes, device
        As in `xtrimogene.tl.embed`. Of more than 10,000 cells, evenly spaced blocks are looked at.

    Returns
    -------
    A report; ``print`` it. Values or genes that will not do are its ``problem`` and no exception.

    Raises
    ------
    FileFormatError
        A file that is missing, damaged or not safe to read.
    """
    loaded = load(model)
    choice, looked, report, cost, problem = None, None, None, None, None
    num_compared, num_seen = 0, 0
    with open_cells(adata) as cells, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        matrices = tuple(_look(cells, matrix) for matrix in cells.matrices)
        try:
            counts = MatchedCounts.find(cells, loaded.genes, layer=layer, input_kind=input_kind, kind=kind)
            choice = counts.choice
            looked = _read_sample(counts)
            report = counts.match.report(counts.counts_per_column)
            num_compared, num_seen = _compare(looked.few, choice, loaded)
            counts.require_of_read(min_genes=min_genes)
            cost = _probe(counts, looked, Inference(loaded, device=device))
        except (CountsError, GeneMatchError, FieldError) as error:
            problem = str(error)
        return CheckReport(
            source=cells.name,
            num_cells=cells.num_cells,
            matrices=matrices,
            choice=choice,
            model=loaded.name or "unnamed model",
            num_model_genes=len(loaded.genes),
            genes=report,
            num_looked_at=0 if looked is None else len(looked.readable),
            num_unreadable=0 if looked is None else int((~looked.readable).sum()),
            num_compared=num_compared,
            num_seen=num_seen,
            cost=cost,
            remarks=tuple(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)),
            problem=problem,
        )


def _look(cells: CellBlocks, matrix: str) -> MatrixFinding:
    ranges = cells.sample_rows(_LOOKED_AT)
    starts = (start for start, _ in ranges)
    found = inspect(zip(starts, cells.read_blocks(matrix, ranges), strict=True))
    if found.holds_counts:
        holds = f"counts up to {found.largest:,.0f}"
    elif found.holds_log():
        total = common_total(found.log_totals["e"])
        holds = f"log1p of counts{f' scaled to {total:,.0f} per cell' if total else ''}"
    else:
        holds = describe(found)[0]
    return MatrixFinding(name=matrix, num_columns=cells.num_columns(matrix), holds=holds)


@dataclass(frozen=True, slots=True, eq=False)
class _Looked:
    """Rows that were read: which can be embedded, how long reading took, and a few of them, evenly spaced."""

    readable: Bool[np.ndarray, "rows"]
    seconds: float
    few: csr_matrix


def _read_sample(counts: MatchedCounts) -> _Looked:
    started = time.perf_counter()
    stride = max(1, min(counts.cells.num_cells, SAMPLE_ROWS) // _MOST_PROBED)
    readable, few, seen = [], [], 0
    for _, block in counts.sample():
        readable.append(readable_cells(block))
        few.append(block[-seen % stride :: stride])
        seen += block.shape[0]
    return _Looked(np.concatenate(readable), time.perf_counter() - started, csr_matrix(vstack(few)))


def _compare(few: csr_matrix, choice: CountsChoice, model: PretrainedModel) -> tuple[int, int]:
    """Number of cells that were compared with those the model was trained on, and found among them."""
    if model.cell_hashes is None or choice.input_kind not in ("counts", "log1p"):
        return 0, 0
    return few.shape[0], int(are_among(hash_cells(few, gene_keys(model.genes)), model.cell_hashes).sum())


def _probe(counts: MatchedCounts, looked: _Looked, inference: Inference) -> CostEstimate:
    """Embed a few cells, then more of them, until the time taken says something."""
    inference.cell_embeddings(looked.few[:1], normalized=counts.normalized)  # the first call also loads code
    available = looked.few.shape[0]
    number, seconds = 0, 0.0
    while number < available and seconds < (_PROBE_SECONDS if number >= 16 else 4 * _PROBE_SECONDS):
        number = min(max(4, 4 * number), available)
        rows = np.linspace(0, available - 1, number).astype(int)
        started = time.perf_counter()
        inference.cell_embeddings(looked.few[rows], normalized=counts.normalized)
        seconds = time.perf_counter() - started
    num_cells = counts.cells.num_cells
    peak = _peak_memory()
    return CostEstimate(
        device=inference.device.type,
        num_probed=number,
        seconds=num_cells * (seconds / number + looked.seconds / len(looked.readable)),
        memory=None if peak is None else peak + 4 * num_cells * inference.embedding_dim(),
    )


def _peak_memory() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _time_text(cost: CostEstimate) -> str:
    seconds = cost.seconds
    if seconds < 90:
        text = f"{max(seconds, 1):.0f} s"
    else:
        text = f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
    return f"about {text} to embed on {cost.device}, by {cost.num_probed} cells embedded here"


def _row(name: str, text: str) -> str:
    return textwrap.fill(text, 80, initial_indent=f"{name:<10} ", subsequent_indent=" " * 11)
