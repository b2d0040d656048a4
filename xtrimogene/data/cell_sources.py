"""Where cells come from, an AnnData or the tree of an .h5ad or .zarr: both give readers and tables by name.

Matrices are named as in an AnnData: ``X``, ``layers/NAME``, ``raw/X``; tables: ``obs``, ``var``, ``raw/var``.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xtrimogene.data.block_readers import (
    DECODING_ERRORS,
    CscReader,
    CsrReader,
    DenseReader,
    MatrixReader,
    damaged,
    first_line,
    read_slice,
)
from xtrimogene.errors import FileFormatError

if TYPE_CHECKING:
    from anndata import AnnData


class MemoryCells:
    """An AnnData: nothing is copied until a block is asked for; a backed one is read from its open file."""

    def __init__(self, adata: "AnnData") -> None:
        if adata.isbacked and adata.is_view:
            raise FileFormatError(
                "A view of a backed AnnData cannot be read in blocks; give adata.to_memory(), or the path of the file."
            )
        self.adata = adata
        self.name = "AnnData"
        self.num_cells = adata.n_obs
        found = [] if not adata.isbacked and adata.X is None else ["X"]
        found += [f"layers/{layer}" for layer in sorted(adata.layers)]
        found += ["raw/X"] if adata.raw is not None and (adata.isbacked or adata.raw.X is not None) else []
        self.matrices = tuple(found)

    def reader(self, matrix: str) -> MatrixReader:
        from scipy.sparse import issparse

        where = f"{self.name} {matrix}"
        if self.adata.isbacked and not matrix.startswith("layers/"):
            return stored_reader(where, self.adata.file[matrix])
        if matrix.startswith("layers/"):
            array = self.adata.layers[matrix.removeprefix("layers/")]
        else:
            array = self.adata.X if matrix == "X" else self.adata.raw.X
        if issparse(array) and array.format in ("csr", "csc"):
            kind = CsrReader if array.format == "csr" else CscReader
            return kind(where, array.data, array.indices, array.indptr, array.shape)
        if isinstance(array, np.ndarray):
            return DenseReader(where, np.asarray(array))
        raise FileFormatError(f"{where} is a {type(array).__name__}; a NumPy array or a CSR or CSC matrix is needed.")

    def table(self, table: str) -> pd.DataFrame:
        frame: pd.DataFrame = self.adata.raw.var if table == "raw/var" else getattr(self.adata, table)
        return frame

    def close(self) -> None:
        """Nothing to close: the AnnData is the caller's."""


class StoredCells:
    """The tree of an .h5ad or .zarr that `check_file` has passed. ``root`` is an h5py or zarr group."""

    def __init__(self, name: str, root: Any) -> None:
        self.name, self.root = name, root
        with decodable(name):
            self._look(root)

    def _look(self, root: Any) -> None:
        raw = (
            {"raw/X": "raw/X", "raw/var": "raw/var"} if "raw" in root else {"raw/X": "raw.X", "raw/var": "raw.var"}
        )  # before 0.7
        self.paths = {"X": "X", "obs": "obs", "var": "var", **raw}
        if "layers" in root and not _is_group(root["layers"]):
            raise damaged(self.name, "holds an array where its layers belong")
        layers = sorted(root["layers"].keys()) if "layers" in root else []
        self.paths |= {f"layers/{layer}": f"layers/{layer}" for layer in layers}
        candidates = ["X", *(f"layers/{layer}" for layer in layers), "raw/X"]
        self.matrices = tuple(
            matrix for matrix in candidates if self.paths[matrix] in root and not _is_null(root[self.paths[matrix]])
        )
        self.num_cells = table_length(root["obs"], f"{self.name} obs")

    def reader(self, matrix: str) -> MatrixReader:
        with decodable(f"{self.name} {matrix}"):
            return self._reader(matrix)

    def _reader(self, matrix: str) -> MatrixReader:
        reader = stored_reader(f"{self.name} {matrix}", self.root[self.paths[matrix]])
        var = "raw/var" if matrix == "raw/X" else "var"
        if self.paths[var] not in self.root:
            raise damaged(self.name, f"has {matrix} but no {var}")
        num_genes = table_length(self.root[self.paths[var]], f"{self.name} {var}")
        if (reader.num_cells, reader.num_columns) != (self.num_cells, num_genes):
            there = f"{self.num_cells:,} cells in obs and {num_genes:,} genes in {var}"
            raise damaged(self.name, f"holds {matrix} of {reader.num_cells:,} x {reader.num_columns:,} for {there}")
        return reader

    def table(self, table: str) -> pd.DataFrame:
        from anndata import OldFormatWarning
        from anndata.io import read_elem

        where = f"{self.name} {table}"
        with decodable(where):
            node = self.root[self.paths[table]]
        with decodable(where), warnings.catch_warnings():
            warnings.simplefilter("ignore", OldFormatWarning)  # not the reader's fault, and read correctly
            frame = read_elem(node) if _is_group(node) else _structured_table(node)
        if not isinstance(frame, pd.DataFrame):
            raise damaged(where, f"holds a {type(frame).__name__} and a table is needed")
        return frame

    def close(self) -> None:
        if hasattr(self.root, "file"):  # h5py; a zarr directory has nothing open
            self.root.file.close()


CellSource = MemoryCells | StoredCells


@contextmanager
def decodable(where: str) -> Iterator[None]:
    """Say in a sentence that what is read inside cannot be decoded.

    Raises
    ------
    FileFormatError
        It cannot.
    """
    try:
        yield
    except FileFormatError:
        raise
    except DECODING_ERRORS as error:
        raise damaged(where, f"cannot be read ({first_line(error)})") from error
    except Exception as error:  # what anndata raises of an encoding that it does not know is not public
        if type(error).__name__ != "IORegistryError":
            raise
        raise damaged(where, f"cannot be read ({first_line(error)})") from error


def stored_reader(where: str, node: Any) -> MatrixReader:
    """Make the reader for one h5py or zarr node, in today's encodings or those before anndata 0.7."""
    if not _is_group(node):
        return DenseReader(where, node)
    encoding = _text(node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", "unknown")))
    by_row, by_column = encoding in ("csr_matrix", "csr"), encoding in ("csc_matrix", "csc")
    if not (by_row or by_column):
        raise FileFormatError(f"{where} is stored as {encoding!r}; a dense array or a CSR or CSC matrix is needed.")
    shape = node.attrs.get("shape", node.attrs.get("h5sparse_shape"))
    data, indices, indptr = (node.get(part) for part in ("data", "indices", "indptr"))
    if any(part is None or _is_group(part) for part in (data, indices, indptr)):
        raise damaged(where, "lacks one of data, indices and indptr")
    size = _matrix_size(shape, where)
    return CsrReader(where, data, indices, indptr, size) if by_row else CscReader(where, data, indices, indptr, size)


def table_length(node: Any, where: str) -> int:
    """Count the rows of a stored table without reading it."""
    if _is_group(node):
        index = _text(node.attrs.get("_index", "_index"))
        node = node.get(index)
        if node is not None and _is_group(node):
            node = node.get("codes")
    if node is None or _is_group(node) or len(node.shape) != 1:
        raise damaged(where, "has no index")
    return int(node.shape[0])


def _matrix_size(shape: Any, where: str) -> tuple[int, int]:
    numbers = np.asarray(shape)
    if numbers.shape != (2,) or numbers.dtype.kind not in "iu":
        raise damaged(where, f"declares the shape {_text(shape)!r} and two whole numbers are needed")
    return int(numbers[0]), int(numbers[1])


def _structured_table(node: Any) -> pd.DataFrame:
    """Read a table from before anndata 0.7: one compound array whose first field is the index."""
    rows = read_slice(str(node.name), node, 0, node.shape[0])
    if rows.dtype.names is None:
        raise damaged(str(node.name), f"holds {rows.dtype} values and a table is needed")
    columns = {name: rows[name] for name in rows.dtype.names}
    decoded = {name: _decoded(column) for name, column in columns.items()}
    frame = pd.DataFrame(decoded)
    return frame.set_index(frame.columns[0])


def _decoded(column: np.ndarray) -> np.ndarray:
    if column.dtype.kind not in "SO":
        return column
    return np.array([_text(value) for value in column], dtype=object)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _is_group(node: Any) -> bool:
    return not hasattr(node, "shape")


def _is_null(node: Any) -> bool:
    return _text(node.attrs.get("encoding-type", "")) == "null"
