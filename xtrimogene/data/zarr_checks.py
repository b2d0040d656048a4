"""Look at a zarr directory store, version 2 or 3, with the file system alone: no codec runs before this has passed."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xtrimogene.data.storage_limits import MAX_DEPTH, StoredSizes
from xtrimogene.errors import FileFormatError, UnsafeFileError

_METADATA = {".zarray", ".zgroup", ".zattrs", ".zmetadata", "zarr.json"}
_MAX_METADATA_BYTES = 64 << 20
_MAX_CHUNK_BYTES = 2 << 30  # blosc's own limit; a chunk is decoded whole
# an allow-list: numcodecs also has a pickle codec, which runs code from the file
_CODECS = {
    *("bytes", "transpose", "sharding_indexed", "crc32c", "gzip", "zstd", "blosc", "vlen-utf8", "vlen-bytes"),
    *("zlib", "lz4", "shuffle", "delta", "crc32", "adler32", "fletcher32", "packbits", "fixedscaleoffset", "bitround"),
}
_STRING_CODECS = {"vlen-utf8", "vlen-bytes"}
_STRING_TYPES = {"string", "bytes", "variable_length_bytes"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _ArrayHeader:
    name: str
    declared: int
    chunk: int


def check_zarr(path: Path) -> None:
    """Refuse a directory that is no AnnData in zarr or not safe to read.

    Raises
    ------
    FileFormatError, UnsafeFileError
        As `check_zarr_tree`; or there is no obs and var.
    """
    check_zarr_tree(path)
    if not ((path / "obs").is_dir() and (path / "var").is_dir()):
        raise FileFormatError(
            f"{path} is a zarr store but no AnnData: it has no obs and var. Write the cells with adata.write_zarr."
        )


def check_zarr_tree(path: Path) -> None:
    """Refuse a directory that is no zarr store or not safe to read, whatever it holds.

    Raises
    ------
    FileFormatError
        No zarr store, or its metadata cannot be parsed.
    UnsafeFileError
        Symbolic links, special files, codecs or types of Python objects, declared sizes beyond what is stored,
        nesting too deep, too many members.
    """
    if not any((path / name).is_file() for name in (".zgroup", "zarr.json")):
        raise FileFormatError(
            f"{path} is a directory but no zarr store; give an .h5ad file or what adata.write_zarr wrote."
        )
    try:
        _check_tree(path)
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error


def _check_tree(path: Path) -> None:
    sizes = StoredSizes(path, 0)
    headers: list[_ArrayHeader] = []
    stored: list[int] = []
    stack: list[tuple[Path, int, int]] = [(path, 0, -1)]  # folder, depth, index of the array it belongs to
    while stack:
        folder, depth, owner = stack.pop()
        name = folder.relative_to(path).as_posix()
        if depth > MAX_DEPTH:
            raise UnsafeFileError(
                f"{path}: groups nest deeper than {MAX_DEPTH} levels, which no AnnData needs; do not use it."
            )
        with os.scandir(folder) as listing:
            entries = list(listing)
        for entry in entries:
            if entry.is_symlink() or not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                raise UnsafeFileError(
                    f"{path}: {name}/{entry.name} is a symbolic link or special file; copy the data into the store."
                )
        if owner < 0:
            sizes.add_members(1)
        for metadata in (_read_metadata(Path(entry.path)) for entry in entries if entry.name in _METADATA):
            header = _array_header(metadata, name, path)
            if header is not None:
                owner = len(headers)
                headers.append(header)
                stored.append(0)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                stack.append((Path(entry.path), depth + 1, owner))
            else:
                size = entry.stat(follow_symlinks=False).st_size
                sizes.file_size += size
                if owner >= 0 and entry.name not in _METADATA:
                    stored[owner] += size
    for header, size in zip(headers, stored, strict=True):
        sizes.add_array(header.name, max(header.declared, header.chunk), size)
    sizes.check_totals()


def _read_metadata(file: Path) -> Any:
    if file.stat().st_size > _MAX_METADATA_BYTES:
        raise UnsafeFileError(
            f"{file} is {file.stat().st_size / 1e6:,.0f} MB of metadata, which no AnnData needs; do not use it."
        )
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{file} is no readable zarr metadata ({type(error).__name__}); write the store again."
        ) from error


def _array_header(metadata: Any, name: str, path: Path) -> _ArrayHeader | None:
    """Return the declared sizes of an array, or None for a group or attributes."""
    if not isinstance(metadata, dict) or "shape" not in metadata:
        return None
    try:
        if "data_type" in metadata:
            item, codecs = _item_size_v3(metadata["data_type"]), list(metadata["codecs"])
            sharded = codecs[0]["name"] == "sharding_indexed"  # the chunks inside a shard are decoded one by one
            chunk = (codecs[0] if sharded else metadata["chunk_grid"])["configuration"]["chunk_shape"]
        elif "dtype" in metadata and "chunks" in metadata:
            codecs = [
                *(metadata.get("filters") or ()),
                *([metadata["compressor"]] if metadata.get("compressor") else ()),
            ]
            item, chunk = _item_size_v2(metadata["dtype"], codecs), metadata["chunks"]
        else:  # attributes of a sparse matrix also have a shape
            return None
        for codec in codecs:
            _check_codec(codec)
        header = _ArrayHeader(
            name=name, declared=item * math.prod(map(int, metadata["shape"])), chunk=item * math.prod(map(int, chunk))
        )
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{path}: {name} {error}") from None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(
            f"{path}: {name} has metadata that is not zarr ({type(error).__name__}: {error}); write the store again."
        ) from error
    if header.chunk > _MAX_CHUNK_BYTES:
        raise UnsafeFileError(
            f"{path}: {name} has chunks of {header.chunk / 1e9:,.1f} GB; write it with chunks below 2 GB."
        )
    return header


def _item_size_v2(dtype: Any, codecs: list[Any]) -> int:
    fields = [tuple(field) for field in dtype] if isinstance(dtype, list) else dtype
    parsed = np.dtype(fields)
    if parsed.hasobject and not any(codec.get("id") in _STRING_CODECS for codec in codecs):
        raise UnsafeFileError("holds Python objects instead of numbers or strings; rewrite it.")
    return parsed.itemsize


def _item_size_v3(data_type: Any) -> int:
    name = data_type["name"] if isinstance(data_type, Mapping) else data_type
    if name in _STRING_TYPES:
        return 8
    if isinstance(data_type, Mapping):
        configuration = data_type["configuration"]
        return int(configuration.get("length_bytes", 8))
    if name.startswith("r") and name[1:].isdigit():
        return int(name[1:]) // 8
    if np.dtype(name).hasobject:
        raise UnsafeFileError("holds Python objects instead of numbers or strings; rewrite it.")
    return np.dtype(name).itemsize


def _check_codec(codec: Mapping[str, Any]) -> None:
    name = str(codec.get("name") or codec.get("id"))
    if name.removeprefix("numcodecs.") not in _CODECS:
        raise UnsafeFileError(f"uses the codec {name!r}, which is not read here; write it with zstd or blosc.")
    for inner in codec.get("configuration", {}).get("codecs", ()):  # sharding has codecs of its own
        _check_codec(inner)
