"""A matrix that comes in blocks of rows: kept in memory, or in parts on disk that are joined into a file.

Parts outlive a stop. They lie beside the file to be, in ``.NAME.partial``, with a record of what they were made with.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from anndata import AnnData, settings
from anndata.io import write_elem
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix, vstack

from xtrimogene.errors import ConfigError, FileFormatError
from xtrimogene.long_work import begin_run, temporary_folder, whole_file

Block: TypeAlias = Float32[np.ndarray, "b A"] | csr_matrix
Create = Callable[[Any, str, np.ndarray, tuple[int, ...]], Any]
CHUNK_BYTES = 1 << 20


def require_new_file(out: Path) -> None:
    """Refuse a name that no matrix can be written to.

    Raises
    ------
    ConfigError
        Another ending than .h5ad or .zarr, something that exists, or a folder that does not or cannot be written to.
    """
    if out.suffix not in (".h5ad", ".zarr"):
        raise ConfigError(f"out={str(out)!r} has to end in .h5ad or .zarr.")
    if out.exists():
        raise ConfigError(f"{out} exists already; name another file, or remove it.")
    if not out.parent.is_dir():
        raise ConfigError(f"The folder {out.parent} does not exist; make it, or name another file.")
    with temporary_folder(out):
        pass


class MemoryMatrix:
    """Blocks of rows in memory, refused once they are larger than ``max_gigabytes``."""

    def __init__(self, max_gigabytes: float) -> None:
        self.max_gigabytes = max_gigabytes
        self.num_bytes = 0
        self._blocks: list[Block] = []

    def has(self, first_row: int) -> bool:
        return False

    def put(self, first_row: int, block: Block) -> None:
        size = block.nbytes if isinstance(block, np.ndarray) else block.data.nbytes + block.indices.nbytes
        self.num_bytes += size
        self.require(self.num_bytes)
        self._blocks.append(block)

    def require(self, num_bytes: int) -> None:
        """Refuse so many bytes.

        Raises
        ------
        ConfigError
            They are more than allowed.
        """
        if num_bytes > self.max_gigabytes * 1e9:
            raise ConfigError(
                f"The result takes {num_bytes / 1e9:,.1f} GB or more and at most {self.max_gigabytes:g} GB are allowed "
                "(max_gigabytes): name genes, set a threshold, or write it to disk with out=."
            )

    def whole(self) -> Block:
        if isinstance(self._blocks[0], csr_matrix):
            return csr_matrix(vstack(self._blocks, format="csr"))
        return np.concatenate(self._blocks)


class PartialMatrix:
    """Blocks of rows on disk, each written once; made with the same ``record``, it goes on where it was stopped."""

    def __init__(self, out: Path, record: dict[str, Any], num_columns: int) -> None:
        self.out, self.num_columns = out, num_columns
        self.folder = out.parent / f".{out.name}.partial"
        self.folder.mkdir(exist_ok=True)
        begin_run(self.folder / "record.json", record, remedy="remove it, or name another file")

    def has(self, first_row: int) -> bool:
        return self._part(first_row).exists()

    def put(self, first_row: int, block: Block) -> None:
        arrays = {"values": block}
        if isinstance(block, csr_matrix):
            arrays = {"data": block.data, "indices": block.indices, "indptr": np.diff(block.indptr)}
        with whole_file(self._part(first_row)) as place:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, place)

    def join(self, cells: AnnData) -> None:
        """Write the file, ``cells`` with all blocks as X, and remove the parts."""
        with temporary_folder(self.out) as scratch:
            place = scratch / self.out.name
            if self.out.suffix == ".h5ad":
                import h5py

                with h5py.File(place, "w") as file:
                    self._write(file, cells, _create_hdf5)
            else:
                import zarr

                self._write(zarr.open_group(place, mode="w", zarr_format=2), cells, _create_zarr)
            os.replace(place, self.out)
        shutil.rmtree(self.folder)

    def _part(self, first_row: int) -> Path:
        return self.folder / f"{first_row:012d}.safetensors"

    def _parts(self, *names: str) -> Iterator[tuple[np.ndarray, ...]]:
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                arrays = load_file(path)
            except (OSError, SafetensorError) as error:
                raise FileFormatError(f"{path} is damaged ({error}); remove it, and run again.") from error
            yield tuple(arrays[name] for name in names)

    def _write(self, root: Any, cells: AnnData, create: Create) -> None:
        num_rows = cells.n_obs
        _describe(root, "anndata", "0.1.0")
        with settings.override(allow_write_nullable_strings=True):
            for name, element in (("obs", cells.obs), ("var", cells.var), ("uns", dict(cells.uns))):
                write_elem(root, name, element)
        sparse = "data" in load_file(next(iter(sorted(self.folder.glob("*.safetensors")))))
        if not sparse:
            matrix = create(
                root, "X", np.empty((num_rows, self.num_columns), np.float32)[:0], (num_rows, self.num_columns)
            )
            _fill(matrix, (values for (values,) in self._parts("values")))
            return
        lengths = np.concatenate([lengths for (lengths,) in self._parts("indptr")])
        indptr = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        group = root.create_group("X")
        _describe(group, "csr_matrix", "0.1.0")
        group.attrs["shape"] = [num_rows, self.num_columns]
        create(group, "indptr", indptr[:0], indptr.shape)[:] = indptr
        for name, kind in (("data", np.float32), ("indices", np.int32)):
            array = create(group, name, np.empty(0, kind), (int(indptr[-1]),))
            _fill(array, (values.astype(kind) for (values,) in self._parts(name)))


def _fill(array: Any, blocks: Iterator[np.ndarray]) -> None:
    start = 0
    for block in blocks:
        array[start : start + len(block)] = block
        start += len(block)


def _describe(element: Any, encoding: str, version: str) -> None:
    element.attrs["encoding-type"], element.attrs["encoding-version"] = encoding, version


def _chunks(kind: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...]:
    row = kind.itemsize * max(1, int(np.prod(shape[1:])))
    return (max(1, min(shape[0], CHUNK_BYTES // row)), *(max(1, size) for size in shape[1:]))


def _create_hdf5(group: Any, name: str, like: np.ndarray, shape: tuple[int, ...]) -> Any:
    array = group.create_dataset(name, shape=shape, dtype=like.dtype, chunks=_chunks(like, shape))
    _describe(array, "array", "0.2.0")
    return array


def _create_zarr(group: Any, name: str, like: np.ndarray, shape: tuple[int, ...]) -> Any:
    array = group.create_array(name, shape=shape, dtype=like.dtype, chunks=_chunks(like, shape))
    _describe(array, "array", "0.2.0")
    return array
