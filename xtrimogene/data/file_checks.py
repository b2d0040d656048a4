"""Look at an .h5ad or .zarr before any of its values is used.

Both formats can name other files, and both keep the declared size of an array apart from its bytes. A file from
a stranger could so return the content of another file, or ask for more memory than the machine has. Everything here
reads metadata only.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from xtrimogene.data.storage_limits import MAX_DEPTH, StoredSizes
from xtrimogene.data.zarr_checks import check_zarr
from xtrimogene.errors import FileFormatError, UnsafeFileError

FileKind = Literal["h5ad", "zarr"]

_SIGNATURES = (
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
)
_READ_FRAMES = ("/obs", "/var", "/raw/var", "/raw.var")  # the parts that are read as tables, strings included


def check_file(path: str | os.PathLike[str]) -> FileKind:
    """Refuse a file of cells that is damaged or not safe to read, and say of which kind it is.

    A zarr store is a directory (version 2 or 3); a zipped one is refused.

    Parameters
    ----------
    path
        An .h5ad file or a .zarr directory.

    Raises
    ------
    FileFormatError
        Missing, empty, truncated, or neither HDF5 nor zarr.
    UnsafeFileError
        Links, external or virtual storage, declared sizes beyond what is stored, nesting too deep, too many members, or
        arrays of Python objects.
    """
    path = Path(path)
    if not path.exists():
        raise FileFormatError(f"{path} does not exist; give the path of an .h5ad file or a .zarr directory.")
    if path.is_dir():
        check_zarr(path)
        return "zarr"
    if not path.is_file():
        raise FileFormatError(f"{path} is no regular file; give an .h5ad file or a .zarr directory.")
    with open_hdf5(path) as file:
        try:
            check_hdf5(file, path)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(f"{path} is damaged ({_first_line(error)}); copy or download it again.") from error
    return "h5ad"


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, or say in one sentence why it is none."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    if size == 0:
        raise FileFormatError(f"{path} is empty (0 bytes); copy or download it again.")
    try:
        if h5py.is_hdf5(path):
            # best-effort: a read-only or network file system without locks is no reason to fail
            return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        raise FileFormatError(
            f"{path} is truncated or damaged ({_first_line(error)}); copy or download it again."
        ) from error
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            raise FileFormatError(f"{path} is {what}; unpack it and give the .h5ad file or the .zarr directory inside.")
    raise FileFormatError(f"{path} is no HDF5 file, whatever its name says; write the cells with adata.write_h5ad.")


def check_hdf5(file: h5py.File, path: Path) -> None:
    """Walk an open HDF5 file without following any link that is not a plain member.

    Raises
    ------
    UnsafeFileError
        As in `check_file`.
    FileFormatError
        A dataset needs a compression filter that is not installed, or the file is of another HDF5 format.
    """
    sizes = StoredSizes(path, path.stat().st_size)
    for name, node in _walk(file, sizes):
        if isinstance(node, h5py.Dataset):
            _check_dataset(node, name, sizes)
    sizes.check_totals()
    if "obs" not in file or "var" not in file:
        raise FileFormatError(f"{path} is HDF5 but no .h5ad: it has no obs and var. {_other_format(file)}")


def _walk(file: h5py.File, sizes: StoredSizes) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Yield every member once. A stack and not recursion: 2,000 nested groups must not end the process."""
    stack = [("", file["/"], 0)]
    seen = {_address(file["/"])}
    while stack:
        prefix, group, depth = stack.pop()
        if depth >= MAX_DEPTH:
            raise UnsafeFileError(
                f"{sizes.path}: groups nest deeper than {MAX_DEPTH} levels, which no AnnData needs; do not use it."
            )
        sizes.add_members(group.id.get_num_objs())
        for member in group:
            name = f"{prefix}/{member}"
            link = group.get(member, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise UnsafeFileError(
                    f"{sizes.path}: {name[:80]} is a {_link_text(link)}; store the data itself in the file."
                )
            node = group[member]
            address = _address(node)
            if address in seen:  # a group may be a member of itself
                continue
            seen.add(address)
            if isinstance(node, h5py.Group):
                stack.append((name, node, depth + 1))
            yield name, node


def _check_dataset(dataset: h5py.Dataset, name: str, sizes: StoredSizes) -> None:
    if dataset.external is not None:
        raise UnsafeFileError(
            f"{sizes.path}: {name[:80]} keeps its values in another file (external storage); rewrite it as one file."
        )
    if dataset.is_virtual:
        raise UnsafeFileError(
            f"{sizes.path}: {name[:80]} is a virtual dataset over other files; rewrite it as one file."
        )
    if name.startswith(_READ_FRAMES) and _holds_objects(dataset.dtype):
        raise UnsafeFileError(
            f"{sizes.path}: {name[:80]} holds objects ({dataset.dtype}) instead of numbers or strings; rewrite it."
        )
    creation = dataset.id.get_create_plist()
    for index in range(creation.get_nfilters()):
        code = creation.get_filter(index)[0]
        if not h5py.h5z.filter_avail(code):
            raise FileFormatError(
                f"{sizes.path}: {name[:80]} needs HDF5 filter {code}; pip install hdf5plugin and import it first."
            )
    if dataset.shape is not None:
        sizes.add_array(name, dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size())


def _holds_objects(dtype: np.dtype[np.generic]) -> bool:
    if dtype.fields is not None:
        return any(_holds_objects(field[0]) for field in dtype.fields.values())
    return dtype.kind == "O" and h5py.check_string_dtype(dtype) is None


def _address(node: h5py.Group | h5py.Dataset) -> int:
    return int(h5py.h5o.get_info(node.id).addr)


def _link_text(link: h5py.SoftLink | h5py.ExternalLink) -> str:
    if isinstance(link, h5py.ExternalLink):
        return f"link to another file ({link.filename[:80]})"
    return f"soft link ({link.path[:80]})"


def _other_format(file: h5py.File) -> str:
    if "matrix" in file and ("row_attrs" in file or "col_attrs" in file):
        return "It looks like loom: read it with anndata.io.read_loom and write it with write_h5ad."
    if "matrix" in file:
        return "It looks like a 10x Genomics file: read it with scanpy.read_10x_h5 and write it with write_h5ad."
    return "Write the cells with adata.write_h5ad."


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
