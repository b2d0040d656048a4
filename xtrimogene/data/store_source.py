"""One file on its way into a cell store: its cells block by block, and what the store keeps of each.

Letters: B cells of a block, G genes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped
from scipy.sparse import csr_matrix

from xtrimogene.config import StoreConfig
from xtrimogene.data.blocks import CellBlocks
from xtrimogene.data.cell_hashes import gene_keys, hash_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts

CELL = np.dtype(
    [
        ("key", np.uint64),  # a random number: the cell's place in the store
        ("source", np.int32),
        ("row", np.int64),
        ("batch", np.int32),
        ("donor", np.int32),
        ("num_genes", np.int32),
        ("total_counts", np.int64),
        ("cell_hash", np.uint64),
    ]
)


@dataclass(frozen=True, slots=True)
class SourceBlock:
    """Consecutive rows of a file, those left out that have too few genes."""

    stop: int  # the row after the last
    num_read: int
    total_counts: float  # of all rows and all columns that are genes
    matched_counts: float
    counts: csr_matrix  # (B, G)
    cells: Shaped[np.ndarray, "B"]  # of CELL


class SourceReader:
    """A file opened for a store; ``source`` is its place among the files."""

    def __init__(self, cells: CellBlocks, source: int, config: StoreConfig, genes: GeneVocabulary) -> None:
        self.source = source
        self.min_genes = config.min_genes
        self.matched = MatchedCounts.find(cells, genes)
        self.gene_keys = gene_keys(genes)
        self.batches, self.batch = obs_codes(cells, config.batch_key)
        self.donors, self.donor = obs_codes(cells, config.donor_key)
        # raw bits and not a Generator's method: these stay the same in every version of NumPy
        self.key = np.random.PCG64((config.seed, source)).random_raw(cells.num_cells)

    def blocks(self, first_row: int, max_nonzeros: int) -> Iterator[SourceBlock]:
        seen = 0.0
        for first, block in self.matched.blocks(first_row=first_row, max_nonzeros=max_nonzeros):
            of_genes = float(self.matched.counts_per_column @ self.matched.match.is_gene)
            kept = np.flatnonzero(np.diff(block.indptr) >= self.min_genes)
            counts = block[kept]
            yield SourceBlock(
                stop=first + block.shape[0],
                num_read=block.shape[0],
                total_counts=of_genes - seen,
                matched_counts=float(block.sum(dtype=np.float64)),
                counts=counts,
                cells=self._cells(counts, first + kept),
            )
            seen = of_genes

    def _cells(self, counts: csr_matrix, rows: Int64[np.ndarray, "B"]) -> Shaped[np.ndarray, "B"]:
        cells = np.empty(len(rows), dtype=CELL)
        cells["key"], cells["source"], cells["row"] = self.key[rows], self.source, rows
        cells["batch"], cells["donor"] = self.batch[rows], self.donor[rows]
        cells["num_genes"] = np.diff(counts.indptr)
        cells["total_counts"] = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
        cells["cell_hash"] = hash_cells(counts, self.gene_keys)
        return cells


def obs_codes(cells: CellBlocks, key: str | None) -> tuple[list[str], Int64[np.ndarray, "all"]]:
    """Return the values of a column of obs, and which of them each cell has; one value "" without a column."""
    if key is None:
        return [""], np.zeros(cells.num_cells, dtype=np.int64)
    names, codes = np.unique(cells.obs_column(key), return_inverse=True)
    return names.tolist(), codes.astype(np.int64)
