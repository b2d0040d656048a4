"""Row blocks of one matrix, whatever way it is stored: CSR, CSC or dense, in memory, HDF5 or zarr.

Every array here only needs ``shape``, ``dtype`` and slices. A matrix is never read whole: of a CSR matrix one offset a
cell stays in memory, of a CSC matrix one offset a column and one a cell. Nothing reaches scipy before its offsets and
indices are checked: a bad ``indptr`` or index ends the process there.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from scipy.sparse import csr_matrix

from xtrimogene.errors import FileFormatError

SLICE = 4_000_000  # entries read at once
CSC_WINDOW = 16_000_000  # entries of one pass over a CSC matrix
MAX_CSC_PASSES = 64
DENSE_BLOCK = 16_000_000  # elements, zeros included

# what h5py, zarr, numcodecs and anndata raise over bytes that are not what the metadata says
DECODING_ERRORS = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError)

RowRange = tuple[int, int]


class CsrReader:
    """A matrix stored row after row: a block of cells is one slice."""

    def __init__(self, where: str, data: Any, indices: Any, indptr: Any, shape: tuple[int, int]) -> None:
        self.where, self.data, self.indices = where, data, indices
        self.num_cells, self.num_columns = shape
        check_entries(where, data, indices)
        self.indptr = checked_offsets(where, indptr, self.num_cells, data.shape[0])
        check_row_lengths(where, self.indptr, self.num_columns)

    def row_blocks(self, max_nonzeros: int) -> Iterator[RowRange]:
        return blocks_by_offsets(self.indptr, max_nonzeros)

    def read(self, ranges: Sequence[RowRange]) -> Iterator[csr_matrix]:
        for start, stop in ranges:
            low, high = int(self.indptr[start]), int(self.indptr[stop])
            indices = checked_indices(self.where, read_slice(self.where, self.indices, low, high), self.num_columns)
            values = as_float32(read_slice(self.where, self.data, low, high))
            yield canonical(values, indices, self.indptr[start : stop + 1] - low, self.num_columns)


class CscReader:
    """A matrix stored column after column: each window of cells costs one pass over all columns.

    A first pass counts the entries of each cell and checks every index. A window holds up to `CSC_WINDOW` entries and
    is kept until cells outside it are asked for, so reading in order takes ``nonzeros / CSC_WINDOW`` passes.
    """

    def __init__(self, where: str, data: Any, indices: Any, indptr: Any, shape: tuple[int, int]) -> None:
        self.where, self.data, self.indices = where, data, indices
        self.num_cells, self.num_columns = shape
        check_entries(where, data, indices)
        num_entries = data.shape[0]
        if num_entries > MAX_CSC_PASSES * CSC_WINDOW:
            raise FileFormatError(
                f"{where} is stored by column (CSC) with {num_entries:,} values, too many to be read by cell; "
                "write it by row once: adata.X = adata.X.tocsr()."
            )
        self.indptr = checked_offsets(where, indptr, self.num_columns, num_entries)
        counts = np.zeros(self.num_cells, np.int64)
        for low in range(0, num_entries, SLICE):
            rows = checked_indices(
                where, read_slice(where, indices, low, min(low + SLICE, num_entries)), self.num_cells
            )
            counts += np.bincount(rows, minlength=self.num_cells)
        self.row_offsets = np.concatenate([[0], counts.cumsum()])
        check_row_lengths(where, self.row_offsets, self.num_columns)
        self._window: tuple[RowRange, csr_matrix] | None = None

    def row_blocks(self, max_nonzeros: int) -> Iterator[RowRange]:
        return blocks_by_offsets(self.row_offsets, max_nonzeros)

    def read(self, ranges: Sequence[RowRange]) -> Iterator[csr_matrix]:
        if len(ranges) == 1:
            yield self._read_window(*ranges[0])
            return
        for group in self._groups(ranges):
            together = self._gather(np.concatenate([np.arange(start, stop) for start, stop in group]))
            first = 0
            for start, stop in group:
                yield together[first : first + stop - start]
                first += stop - start

    def _read_window(self, start: int, stop: int) -> csr_matrix:
        if self._window is None or not (self._window[0][0] <= start and stop <= self._window[0][1]):
            self._window = None  # frees the old window before the new one is made
            last = int(np.searchsorted(self.row_offsets, self.row_offsets[start] + CSC_WINDOW, side="right")) - 1
            last = max(stop, min(last, self.num_cells))
            self._window = ((start, last), self._gather(np.arange(start, last)))
        first = self._window[0][0]
        return self._window[1][start - first : stop - first]

    def _groups(self, ranges: Sequence[RowRange]) -> Iterator[list[RowRange]]:
        group: list[RowRange] = []
        size = 0
        for start, stop in ranges:
            entries = int(self.row_offsets[stop] - self.row_offsets[start])
            if group and size + entries > CSC_WINDOW:
                yield group
                group, size = [], 0
            group.append((start, stop))
            size += entries
        if group:
            yield group

    def _gather(self, rows: Int[np.ndarray, "rows"]) -> csr_matrix:
        """One pass over the columns: each wanted entry goes straight to its place in the CSR block."""
        place = np.full(self.num_cells, -1, np.int32)
        place[rows] = np.arange(len(rows), dtype=np.int32)
        offsets = np.concatenate([[0], np.diff(self.row_offsets)[rows].cumsum()])
        columns, values = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.float32)
        free = offsets[:-1].copy()
        for low in range(0, self.data.shape[0], SLICE):
            high = min(low + SLICE, self.data.shape[0])
            # checked again: a file on disk may have changed since the first pass
            found = checked_indices(self.where, read_slice(self.where, self.indices, low, high), self.num_cells)
            target = place[found]
            kept = np.flatnonzero(target >= 0)
            kept = kept[np.argsort(target[kept], kind="stable")]  # columns stay ascending within a row
            target = target[kept]
            number = np.bincount(target, minlength=len(rows))
            if (free + number > offsets[1:]).any():
                raise damaged(self.where, "changed while it was read")
            rank = np.arange(len(kept)) - (number.cumsum() - number)[target]
            columns[free[target] + rank] = np.searchsorted(self.indptr, kept + low, side="right") - 1
            values[free[target] + rank] = as_float32(read_slice(self.where, self.data, low, high)[kept])
            free += number
        if (free != offsets[1:]).any():  # else parts of the block were never written
            raise damaged(self.where, "changed while it was read")
        return canonical(values, columns, offsets, self.num_columns)


class DenseReader:
    """A matrix stored with its zeros."""

    def __init__(self, where: str, array: Any) -> None:
        if len(array.shape) != 2:
            raise FileFormatError(f"{where} has {len(array.shape)} dimensions; cells x genes are needed.")
        check_numeric(where, array.dtype)
        self.where, self.array = where, array
        self.num_cells, self.num_columns = array.shape

    def row_blocks(self, max_nonzeros: int) -> Iterator[RowRange]:
        rows = max(1, max_nonzeros // max(1, self.num_columns))
        chunk = (getattr(self.array, "chunks", None) or (1,))[0]
        if rows < chunk and chunk * self.num_columns <= DENSE_BLOCK:
            rows = chunk  # else each chunk would be decoded several times
        rows -= rows % chunk if rows > chunk else 0
        return ((start, min(start + rows, self.num_cells)) for start in range(0, self.num_cells, rows))

    def read(self, ranges: Sequence[RowRange]) -> Iterator[csr_matrix]:
        for start, stop in ranges:
            yield csr_matrix(as_float32(read_slice(self.where, self.array, start, stop)))


MatrixReader = CsrReader | CscReader | DenseReader


def blocks_by_offsets(offsets: Int[np.ndarray, "cells_1"], max_nonzeros: int) -> Iterator[RowRange]:
    """Cut the rows so that each block has at most `max_nonzeros` entries, or is a single row."""
    start, num_cells = 0, len(offsets) - 1
    while start < num_cells:
        stop = int(np.searchsorted(offsets, offsets[start] + max_nonzeros, side="right")) - 1
        stop = min(max(stop, start + 1), num_cells)
        yield start, stop
        start = stop


def read_slice(where: str, array: Any, low: int, high: int) -> np.ndarray:
    """One slice of the first axis; what the storage library cannot decode becomes one sentence."""
    try:
        part = np.asarray(array[low:high])
    except DECODING_ERRORS as error:
        raise FileFormatError(
            f"{where} cannot be decoded ({first_line(error)}); the file is damaged, copy it again."
        ) from error
    if part.shape[0] != high - low:
        raise damaged(where, f"gave {part.shape[0]:,} of {high - low:,} entries")
    return part


def first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), repr(error))[:160]


def damaged(where: str, what: str) -> FileFormatError:
    return FileFormatError(f"{where} {what}; write the file again.")


def check_numeric(where: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "iufb":
        raise FileFormatError(f"{where} holds {dtype} values; numbers are needed.")


def check_entries(where: str, data: Any, indices: Any) -> None:
    check_numeric(where, data.dtype)
    if indices.dtype.kind not in "iu":
        raise damaged(where, f"has indices of type {indices.dtype} and whole numbers are needed")
    if len(data.shape) != 1 or data.shape != indices.shape:
        raise damaged(where, f"has {data.shape} values and {indices.shape} indices and one each is needed")


def checked_offsets(where: str, indptr: Any, num_rows: int, num_entries: int) -> Int[np.ndarray, "rows_1"]:
    """All of indptr, checked: it starts at 0, never falls, and ends at the number of entries."""
    if indptr.shape != (num_rows + 1,) or indptr.dtype.kind not in "iu":
        raise damaged(where, f"has a bad indptr: {indptr.shape} {indptr.dtype} and {num_rows + 1:,} offsets are needed")
    offsets = read_slice(where, indptr, 0, num_rows + 1).astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != num_entries or (np.diff(offsets) < 0).any():
        raise damaged(where, f"has a bad indptr: it must rise from 0 to the number of values, {num_entries:,}")
    return offsets


def check_row_lengths(where: str, offsets: Int[np.ndarray, "cells_1"], num_columns: int) -> None:
    lengths = np.diff(offsets)
    longest = int(lengths.max(initial=0))
    if longest > num_columns:
        raise damaged(where, f"has {longest:,} values in cell row {lengths.argmax():,} and only {num_columns:,} genes")


def checked_indices(where: str, indices: np.ndarray, limit: int) -> np.ndarray:
    if indices.size and (indices.min() < 0 or indices.max() >= limit):
        wrong = int(indices.min()) if indices.min() < 0 else int(indices.max())
        raise damaged(where, f"has a bad index: {wrong:,} is outside 0 to {limit - 1:,}")
    return indices


def as_float32(values: np.ndarray) -> np.ndarray:
    """Copy, so that the user's matrix never changes; too large a float64 becomes infinite and is refused as such."""
    with np.errstate(over="ignore"):
        return np.array(values, np.float32)


def canonical(values: np.ndarray, indices: np.ndarray, offsets: np.ndarray, num_columns: int) -> csr_matrix:
    """Make a CSR block from checked parts, its columns sorted and repeated ones summed."""
    block = csr_matrix(
        (values, indices.astype(np.int32), offsets.astype(np.int32)), shape=(len(offsets) - 1, num_columns)
    )
    block.sum_duplicates()
    return block
