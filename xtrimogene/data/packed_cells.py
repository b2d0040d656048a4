"""A batch of cells as a CSR matrix already holds it: genes and values of all cells, one after the other.

Letters: B cells, N expressed genes of all cells together, G genes of the model, R gene panels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, Shaped
from scipy import sparse
from torch import Tensor

from xtrimogene.data.movable import Movable
from xtrimogene.errors import CountsError
from xtrimogene_kernels.segments import Segments

COUNTS_PER_CELL = 10_000.0


@dataclass(frozen=True, slots=True)
class PackedCells(Movable):
    """Expressed genes only. ``values`` are log1p of counts per 10,000; ``totals`` are the counts they came from."""

    gene_ids: Int64[Tensor, "N"]
    values: Float32[Tensor, "N"]
    segments: Segments
    totals: Float32[Tensor, "B"]
    measured: Bool[Tensor, "R G"]
    panel: Int64[Tensor, "B"]  # which row of ``measured`` a cell belongs to

    @property
    def num_cells(self) -> int:
        return self.segments.num_segments

    def cell_of_row(self) -> Int64[Tensor, "N"]:
        """Return the cell each row belongs to."""
        return self.segments.segment_of_row()

    def rows_of(self, chosen: Bool[np.ndarray, "B"]) -> Bool[Tensor, "N"]:
        """Say which rows are those of the cells chosen."""
        rows = np.repeat(chosen, self.segments.lengths)
        return torch.from_numpy(rows).to(self.values.device, non_blocking=True)

    def where(self, chosen: Bool[np.ndarray, "B"]) -> "PackedCells":
        """Return the cells chosen."""
        rows, device = self.rows_of(chosen), self.values.device
        cells = torch.from_numpy(chosen).to(device, non_blocking=True)
        lengths = np.array(self.segments.lengths, dtype=np.int64)[chosen]
        return PackedCells(
            gene_ids=self.gene_ids[rows],
            values=self.values[rows],
            segments=Segments.from_lengths(lengths.tolist(), device),
            totals=self.totals[cells],
            measured=self.measured,
            panel=self.panel[cells],
        )

    def between(self, start: int, stop: int) -> "PackedCells":
        """Return cells ``start`` to ``stop`` of the batch."""
        rows = self.segments.rows_between(start, stop)
        return PackedCells(
            gene_ids=self.gene_ids[rows],
            values=self.values[rows],
            segments=self.segments.between(start, stop),
            totals=self.totals[start:stop],
            measured=self.measured,
            panel=self.panel[start:stop],
        )


def pack_cells(
    counts: sparse.csr_matrix | sparse.csr_array | sparse.csc_matrix | sparse.csc_array | Shaped[np.ndarray, "B G"],
    *,
    measured: Bool[np.ndarray, "G"] | Bool[np.ndarray, "R G"] | None = None,
    panel: Int64[np.ndarray, "B"] | None = None,
    normalized: bool = False,
) -> PackedCells:
    """Pack cells x genes without making them dense.

    Parameters
    ----------
    counts
        Cells x the model's genes, in the model's order. CSR is used as it is; CSC and dense are converted.
    measured
        Which genes were measured, for all cells or one row per panel. Default: every gene.
    panel
        The row of ``measured`` of each cell. Default: the first.
    normalized
        The values are log1p already and taken as given; a cell's total is their sum, as in the released code.

    Raises
    ------
    CountsError
        A cell without a single count: it has nothing to read, so leave it out before packing.
    """
    matrix = _as_csr(counts)
    num_cells, num_genes = matrix.shape
    lengths = np.diff(matrix.indptr)
    if num_cells and lengths.min() == 0:
        raise CountsError(
            f"Each cell needs a count; cell {int(lengths.argmin())} of the batch has none. Leave empty cells out."
        )
    totals = np.add.reduceat(matrix.data.astype(np.float64), matrix.indptr[:-1]) if num_cells else np.zeros(0)
    values = matrix.data.astype(np.float32, copy=False)
    if not normalized:
        values = np.log1p(values * np.repeat((COUNTS_PER_CELL / totals).astype(np.float32), lengths))
    panels = np.ones((1, num_genes), dtype=bool) if measured is None else np.atleast_2d(measured)
    rows = np.zeros(num_cells, dtype=np.int64) if panel is None else panel
    return PackedCells(
        gene_ids=torch.from_numpy(matrix.indices.astype(np.int64)),
        values=torch.from_numpy(np.ascontiguousarray(values)),
        segments=Segments.from_lengths(lengths.tolist()),
        totals=torch.from_numpy(totals.astype(np.float32)),
        measured=torch.from_numpy(np.ascontiguousarray(panels)),
        panel=torch.from_numpy(rows),
    )


def _as_csr(counts: object) -> sparse.csr_matrix:
    matrix = counts if isinstance(counts, sparse.csr_matrix) else sparse.csr_matrix(counts)
    if not matrix.has_canonical_format or (matrix.nnz and not matrix.data.all()):
        matrix = matrix.copy()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
    return matrix
