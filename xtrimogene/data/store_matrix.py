"""The counts of a cell store: a CSR matrix whose rows arrive in any order, kept and written as small as they can be.

Letters: N cells.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64
from scipy.sparse import csr_matrix

from xtrimogene.data.store_arrays import write_array

if TYPE_CHECKING:
    import zarr

CHUNK_CELLS = 64  # decoded at once; annbatch's own default


class MatrixInMaking:
    """A CSR matrix of known row lengths: each row is put in its place, then all are written."""

    def __init__(self, lengths: Int64[np.ndarray, "N"], num_genes: int, largest_count: int) -> None:
        self.num_genes = num_genes
        self.indptr = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
        self.indices = np.empty(self.indptr[-1], dtype=np.min_scalar_type(-num_genes))  # signed: scipy takes no others
        self.data = np.empty(self.indptr[-1], dtype=np.min_scalar_type(largest_count))

    def put(self, block: csr_matrix, places: Int64[np.ndarray, "n"]) -> None:
        """Copy the rows of a block to these rows of the matrix."""
        starts, ends = self.indptr[places].tolist(), self.indptr[places + 1].tolist()
        edges = block.indptr.tolist()
        for start, end, low, high in zip(starts, ends, edges[:-1], edges[1:], strict=True):
            self.indices[start:end] = block.indices[low:high]
            self.data[start:end] = block.data[low:high]

    def write(self, group: "zarr.Group") -> None:
        """Write ``X`` as anndata does, in shards as annbatch does."""
        num_cells, num_entries = len(self.indptr) - 1, len(self.data)
        encoding = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [num_cells, self.num_genes]}
        matrix = group.create_group("X", attributes=encoding)
        chunk = CHUNK_CELLS * num_entries // max(1, num_cells)
        write_array(matrix, "data", self.data, chunk)
        write_array(matrix, "indices", self.indices, chunk)
        write_array(matrix, "indptr", self.indptr, num_cells + 1)
