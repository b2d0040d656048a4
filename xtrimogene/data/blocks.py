"""Open cells, an AnnData or a file, and read any of their matrices in blocks of rows with bounded memory."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from xtrimogene.data.block_readers import SLICE, MatrixReader, RowRange
from xtrimogene.data.cell_sources import CellSource, MemoryCells, StoredCells
from xtrimogene.data.file_checks import check_file, open_hdf5
from xtrimogene.errors import FieldError, FileFormatError

if TYPE_CHECKING:
    from anndata import AnnData


def open_cells(source: "AnnData | str | os.PathLike[str]") -> "CellBlocks":
    """Open cells for reading in blocks; a file is checked in full (`check_file`) before anything is read.

    Parameters
    ----------
    source
        An AnnData (in memory, a view, or backed), or the path of an .h5ad file or a .zarr directory.

    Raises
    ------
    FileFormatError
        The file is missing, damaged or no AnnData; `UnsafeFileError` if it is not safe to read.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if check_file(path) == "h5ad":
            return CellBlocks(StoredCells(path.name, open_hdf5(path)["/"]))
        import zarr

        # consolidated metadata is a second copy that the check does not compare with the first
        return CellBlocks(StoredCells(path.name, zarr.open_group(path, mode="r", use_consolidated=False)))
    from anndata import AnnData

    if not isinstance(source, AnnData):
        raise FileFormatError(f"Cells are an AnnData or the path of an .h5ad or .zarr, not a {type(source).__name__}.")
    return CellBlocks(MemoryCells(source))


class CellBlocks:
    """Cells whose matrices are read in row blocks. Use as a context manager; made by `open_cells`."""

    def __init__(self, source: CellSource) -> None:
        self._source = source
        self._readers: dict[str, MatrixReader] = {}
        self._obs: pd.DataFrame | None = None

    def __enter__(self) -> "CellBlocks":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._readers.clear()
        self._source.close()

    @property
    def name(self) -> str:
        """The file's name, or "AnnData"; for messages."""
        return self._source.name

    @property
    def num_cells(self) -> int:
        return self._source.num_cells

    @property
    def matrices(self) -> tuple[str, ...]:
        """Such as ``("X", "layers/counts", "raw/X")``."""
        return self._source.matrices

    @property
    def obs(self) -> pd.DataFrame:
        """The table of the cells: that of the AnnData itself, or read from the file when first asked for."""
        if self._obs is None:
            self._obs = self._source.table("obs")
        return self._obs

    def obs_column(self, key: str) -> np.ndarray:
        """Return a column of obs as text.

        Raises
        ------
        FieldError
            No such column, or one with missing values.
        """
        if key not in self.obs.columns:
            raise FieldError(
                f"{self.name} has no obs column {key!r}; it has {', '.join(map(str, self.obs.columns)) or 'none'}."
            )
        column = self.obs[key]
        if column.isna().any():
            raise FieldError(f"{int(column.isna().sum()):,} cells of {self.name} have no {key!r} in obs; fill it in.")
        return column.astype(str).to_numpy(dtype=str)

    @property
    def obs_names(self) -> np.ndarray:
        return self.obs.index.astype(str).to_numpy(dtype=object)

    def num_columns(self, matrix: str) -> int:
        return self._reader(matrix).num_columns

    def gene_columns(self, matrix: str) -> dict[str, np.ndarray]:
        """Everything that may identify the genes of a matrix: ``var_names`` and each text column of its var table.

        Missing texts are "".
        """
        var = self._source.table("raw/var" if matrix == "raw/X" else "var")
        columns = {"var_names": var.index.astype(str).to_numpy(dtype=object)}
        for name in var.columns:
            if _is_text(var[name]):
                column = var[name].astype(object)
                columns[str(name)] = column.where(column.notna(), "").astype(str).to_numpy(dtype=object)
        return columns

    def block(self, matrix: str, start: int, stop: int) -> csr_matrix:
        """Cells ``start`` to ``stop`` as float32, columns sorted, repeated entries summed; a copy.

        Raises
        ------
        FileFormatError
            The block cannot be decoded, or an index lies outside the matrix.
        """
        return next(self.read_blocks(matrix, [(start, stop)]))

    def read_blocks(self, matrix: str, ranges: Sequence[RowRange]) -> Iterator[csr_matrix]:
        """As `block` for each range in turn; of a CSC matrix several ranges share a pass."""
        for start, stop in ranges:
            assert 0 <= start <= stop <= self.num_cells, (start, stop, self.num_cells)
        return self._reader(matrix).read(ranges)

    def row_blocks(self, matrix: str, max_nonzeros: int = SLICE) -> Iterator[RowRange]:
        """Consecutive ``(start, stop)`` over all cells, each of at most `max_nonzeros` values or a single cell."""
        return self._reader(matrix).row_blocks(max_nonzeros)

    def sample_rows(self, num_rows: int = 10_000, num_blocks: int = 20) -> list[RowRange]:
        """Evenly spaced ranges of rows, about `num_rows` in all; everything where there are no more."""
        if self.num_cells <= num_rows:
            return [(0, self.num_cells)]
        edges = np.linspace(0, self.num_cells, num_blocks + 1).astype(int)
        size = -(-num_rows // num_blocks)
        return [(int(low), int(min(low + size, high))) for low, high in zip(edges[:-1], edges[1:], strict=True)]

    def sample_block(self, matrix: str, num_rows: int = 10_000) -> csr_matrix:
        """About `num_rows` cells in evenly spaced blocks, one below the other."""
        return csr_matrix(vstack(list(self.read_blocks(matrix, self.sample_rows(num_rows))), format="csr"))

    def _reader(self, matrix: str) -> MatrixReader:
        if matrix not in self.matrices:
            raise FieldError(f"{self.name} has no matrix {matrix!r}; it has {', '.join(self.matrices) or 'none'}.")
        if matrix not in self._readers:
            self._readers[matrix] = self._source.reader(matrix)
        return self._readers[matrix]


def _is_text(column: pd.Series) -> bool:
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    return pd.api.types.is_string_dtype(values.dtype) or pd.api.types.is_object_dtype(values.dtype)
