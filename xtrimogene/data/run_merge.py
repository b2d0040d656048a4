"""The second half of an external sort: each dataset takes from every run the cells of its part of the key range.

Letters: N cells of a dataset, R panels, G genes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt64
from scipy.sparse import csr_matrix

from xtrimogene.data.sorted_runs import SortedRun, SourcePart
from xtrimogene.data.store_matrix import MatrixInMaking


class RunMerge:
    """All cells of some runs, cut into datasets by their keys; only the cuts are in memory."""

    def __init__(self, runs: Sequence[SortedRun], num_datasets: int, num_genes: int) -> None:
        edges = [number * 2**64 // num_datasets for number in range(1, num_datasets)]
        self.slices = [_RunSlices(run, np.array(edges, dtype=np.uint64), num_genes) for run in runs]
        self.largest_count = max(run.largest_count for run in runs)
        self.num_genes = num_genes
        self.parts: dict[int, SourcePart] = {}
        for run in runs:
            for source, part in run.parts().items():
                if source in self.parts:
                    self.parts[source].merge(part)
                else:
                    self.parts[source] = part

    def dataset(self, number: int) -> tuple[Shaped[np.ndarray, "N"], MatrixInMaking]:
        """Return the cells of a dataset in the order of their keys, and their counts."""
        found = [one.cells(number) for one in self.slices]
        cells = np.concatenate(found)
        order = np.argsort(cells["key"], kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        matrix = MatrixInMaking(cells["num_genes"][order].astype(np.int64), self.num_genes, self.largest_count)
        first = 0
        for one, own in zip(self.slices, found, strict=True):
            matrix.put(one.counts(number, own), place[first : first + len(own)])
            first += len(own)
        return cells[order], matrix


class _RunSlices:
    def __init__(self, run: SortedRun, edges: UInt64[np.ndarray, "e"], num_genes: int) -> None:
        import zarr

        self._file = run.folder / "cells.npy"
        cells = np.load(self._file)
        between = np.searchsorted(cells["key"], edges)
        self.bounds = np.concatenate([[0], between, [len(cells)]])
        self.offsets = np.concatenate([[0], cells["num_genes"].cumsum(dtype=np.int64)])[self.bounds]
        matrix: Any = zarr.open_group(run.folder, mode="r", use_consolidated=False)["X"]
        self.data, self.indices = matrix["data"], matrix["indices"]
        self.num_genes = num_genes

    def cells(self, number: int) -> Shaped[np.ndarray, "n"]:
        return np.array(np.load(self._file, mmap_mode="r")[self.bounds[number] : self.bounds[number + 1]])

    def counts(self, number: int, cells: Shaped[np.ndarray, "n"]) -> csr_matrix:
        low, high = int(self.offsets[number]), int(self.offsets[number + 1])
        indptr = np.concatenate([[0], cells["num_genes"].cumsum(dtype=np.int64)])
        return csr_matrix((self.data[low:high], self.indices[low:high], indptr), shape=(len(cells), self.num_genes))
