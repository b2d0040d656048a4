"""Read a cell store: contiguous blocks of cells that are shuffled already.

Letters: N cells, R panels, G genes.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from scipy.sparse import csr_matrix, vstack

from xtrimogene.data.block_readers import DECODING_ERRORS, CsrReader, damaged, first_line, read_slice
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.store_format import DATASET, StoreRecord
from xtrimogene.data.zarr_checks import check_zarr_tree
from xtrimogene.errors import ConfigError, FileFormatError, GeneMatchError

_RUST = "zarrs.ZarrsCodecPipeline"


class StoreReader:
    """The cells of a store in its order. Decoded by zarrs, in Rust, where that is installed.

    Parameters
    ----------
    genes
        What the store must be over: the same genes in the same order. None: whatever it has.

    Raises
    ------
    FileFormatError
        No cell store, or one that is damaged; `UnsafeFileError` if it is not safe to read.
    GeneMatchError
        A store over other genes.
    """

    def __init__(self, path: str | os.PathLike[str], genes: GeneVocabulary | None = None) -> None:
        self.path = Path(path)
        root = _open(self.path)
        self.record = StoreRecord.find(root.attrs.asdict(), self.path)
        self.sources = self.record.sources
        self.genes = _read_genes(root, self.path)
        if genes is not None and genes.sha256 != self.genes.sha256:
            raise GeneMatchError(_first_difference(self.path, self.genes, genes))
        self.measured = _read_measured(root, self.path, len(self.genes))
        self._datasets = _datasets(root, self.path)
        self._process = os.getpid()
        self._readers = self._open_readers(fast=find_spec("zarrs") is not None)
        self._ends = np.cumsum([reader.num_cells for reader in self._readers])
        self.num_cells = int(self._ends[-1]) if len(self._ends) else 0
        if self.num_cells == 0 or self.num_cells != self.record.num_cells:
            raise damaged(str(self.path), f"has {self.num_cells:,} of its {self.record.num_cells:,} cells")
        self.lengths = np.concatenate([np.diff(reader.indptr) for reader in self._readers])  # (N,)
        self.panel = self.column("panel").astype(np.int64)  # (N,)
        if self.panel.min(initial=0) < 0 or self.panel.max(initial=0) >= len(self.measured):
            raise damaged(str(self.path), f"has panels outside 0 to {len(self.measured) - 1:,}")

    @property
    def num_datasets(self) -> int:
        return len(self._datasets)

    def __reduce__(self) -> tuple[type["StoreReader"], tuple[Path]]:
        return StoreReader, (self.path,)

    def read(self, start: int, stop: int) -> csr_matrix:
        """Read the counts of cells ``start`` to ``stop`` over all genes: float32, columns sorted, no stored zeros.

        Raises
        ------
        FileFormatError
            They cannot be decoded, or are no counts of these genes.
        """
        assert 0 <= start <= stop <= self.num_cells, (start, stop, self.num_cells)
        if self._process != os.getpid():  # zarrs hangs for ever in the child of a fork (zarrs-python issue 171)
            self._process, self._readers = os.getpid(), self._open_readers(fast=False)
        first, last = np.searchsorted(self._ends, [start, stop], side="right")
        parts = []
        for reader, end in zip(self._readers[first : last + 1], self._ends[first : last + 1], strict=True):
            begin = end - reader.num_cells
            low, high = int(max(start, begin) - begin), int(min(stop, end) - begin)
            if low < high:
                parts.append(_read_block(reader, low, high))
        if len(parts) == 1:
            return parts[0]
        return vstack(parts, format="csr") if parts else csr_matrix((0, len(self.genes)), dtype=np.float32)

    def column(self, name: str) -> Shaped[np.ndarray, "N"]:
        """Return a column of obs, such as "dataset", "row", "donor" or "cell_hash".

        Raises
        ------
        FileFormatError
            No such column, or one that is damaged.
        """
        parts = [
            _read_column(dataset, name, f"{self.path.name} {dataset.basename} obs/{name}", reader.num_cells)
            for dataset, reader in zip(self._datasets, self._readers, strict=True)
        ]
        return np.concatenate(parts)

    def _open_readers(self, *, fast: bool) -> list[CsrReader]:
        import zarr

        # an array keeps the codecs it was opened with, so nothing of the process changes
        with zarr.config.set({"codec_pipeline.path": _RUST} if fast else {}):
            return [self._reader(dataset) for dataset in self._datasets]

    def _reader(self, dataset: Any) -> CsrReader:
        where = f"{self.path.name} {dataset.basename} X"
        parts = [_node(dataset, f"X/{part}") for part in ("data", "indices", "indptr")]
        if any(len(getattr(part, "shape", ())) != 1 for part in parts):
            raise damaged(where, "is no CSR matrix")
        data, indices, indptr = parts
        return CsrReader(where, data, indices, indptr, (indptr.shape[0] - 1, len(self.genes)))


def _open(path: Path) -> Any:
    import zarr

    if not (path / "zarr.json").is_file():
        raise FileFormatError(f"{path} is no cell store; give the folder that `xtrimogene store build` wrote.")
    check_zarr_tree(path)
    try:
        return zarr.open_group(path, mode="r", use_consolidated=False)
    except DECODING_ERRORS as error:
        raise damaged(str(path), f"cannot be opened ({first_line(error)})") from error


def _node(parent: Any, name: str) -> Any:
    """Return the array or group of this name, or None."""
    try:
        return parent.get(name)
    except DECODING_ERRORS as error:
        raise damaged(f"{parent.store_path} {name}", f"cannot be opened ({first_line(error)})") from error


def _datasets(root: Any, path: Path) -> list[Any]:
    names = [entry.name for entry in path.iterdir() if re.fullmatch(rf"{DATASET}[0-9]+", entry.name)]
    groups = {name: _node(root, name) for name in sorted(names, key=lambda name: int(name.removeprefix(DATASET)))}
    for name, group in groups.items():
        if not hasattr(group, "group_keys"):
            raise damaged(f"{path.name} {name}", "is no group")
    return list(groups.values())


def _read_genes(root: Any, path: Path) -> GeneVocabulary:
    where = f"{path.name} var"
    arrays = [_node(root, f"var/{name}") for name in ("_index", "ensembl_id")]
    if any(len(getattr(array, "shape", ())) != 1 for array in arrays):
        raise damaged(where, "is no list of genes")
    symbols, ids = (map(str, read_slice(where, array, 0, array.shape[0])) for array in arrays)
    try:
        return GeneVocabulary(tuple(symbols), tuple(ids))
    except ConfigError as error:
        raise FileFormatError(f"{where}: {error}") from error


def _first_difference(path: Path, found: GeneVocabulary, wanted: GeneVocabulary) -> str:
    there, here = (list(zip(genes.symbols, genes.ensembl_ids, strict=True)) for genes in (found, wanted))
    same = next((place for place, (a, b) in enumerate(zip(there, here, strict=False)) if a != b), None)
    how = f"{len(there):,} genes there and {len(here):,} here"
    if same is not None:
        how = f"gene {same:,} is {' '.join(there[same])!r} there and {' '.join(here[same])!r} here"
    return f"{path} is over other genes than the model's ({how}); build it again, or use the genes it was built with."


def _read_measured(root: Any, path: Path, num_genes: int) -> Bool[np.ndarray, "R G"]:
    array, where = _node(root, "measured"), f"{path.name} measured"
    shape: tuple[int, ...] = getattr(array, "shape", ())
    if len(shape) != 2 or shape[1] != num_genes or array.dtype != bool:
        raise damaged(where, f"is no table of panels x {num_genes:,} genes")
    return read_slice(where, array, 0, shape[0])


def _read_column(dataset: Any, name: str, where: str, num_cells: int) -> Shaped[np.ndarray, "n"]:
    codes, texts = _node(dataset, f"obs/{name}/codes"), _node(dataset, f"obs/{name}/categories")
    column = _node(dataset, f"obs/{name}") if codes is None else codes
    if getattr(column, "shape", None) != (num_cells,) or (texts is not None and len(getattr(texts, "shape", ())) != 1):
        raise damaged(where, f"does not hold {num_cells:,} values")
    values = read_slice(where, column, 0, num_cells)
    if texts is None:
        return values
    categories = read_slice(where, texts, 0, texts.shape[0]).astype(object)
    if values.dtype.kind not in "iu" or values.min(initial=0) < 0 or values.max(initial=0) >= len(categories):
        raise damaged(where, "has codes without a category")
    return categories[values]


def _read_block(reader: CsrReader, start: int, stop: int) -> csr_matrix:
    """A stored zero or a repeated gene would belie the lengths, which are those of indptr."""
    block = next(reader.read([(start, stop)]))
    if block.nnz != reader.indptr[stop] - reader.indptr[start] or not block.data.all():
        raise damaged(reader.where, "holds a zero, or a gene twice in a cell")
    return block
