"""Arrays and tables in a zarr group, in the encodings of anndata's on-disk format."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Int

if TYPE_CHECKING:
    import zarr

SHARD_BYTES = 512 << 20  # before compression; a shard is one file


class Categories(NamedTuple):
    """A column of texts that repeat: which of the texts each row has."""

    codes: Int[np.ndarray, "rows"]
    texts: Sequence[str]


Column = np.ndarray | Categories


def write_array(group: "zarr.Group", name: str, values: np.ndarray, chunk: int) -> None:
    """Write numbers in chunks of so many rows, many chunks to a file."""
    from zarr.codecs import BloscCodec

    most = max(1, SHARD_BYTES // max(1, values[:1].nbytes))  # rows
    chunk = max(1, min(chunk, most, len(values)))
    shard = chunk * max(1, min(most // chunk, -(-len(values) // chunk)))
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(chunk, *values.shape[1:]),
        shards=(shard, *values.shape[1:]),
        compressors=[BloscCodec(cname="lz4", clevel=3, shuffle="shuffle")],  # what reads fastest for its size
        attributes={"encoding-type": "array", "encoding-version": "0.2.0"},
    )
    array[:] = values


def write_table(group: "zarr.Group", name: str, index: Sequence[str], columns: Mapping[str, Column]) -> None:
    """Write a table: numbers, categories, or texts (an object array)."""
    attributes = {"_index": "_index", "column-order": list(columns)}
    encoding = {"encoding-type": "dataframe", "encoding-version": "0.2.0"}
    table = group.create_group(name, attributes={**encoding, **attributes})
    _write_texts(table, "_index", index)
    for key, column in columns.items():
        if isinstance(column, Categories):
            encoding = {"encoding-type": "categorical", "encoding-version": "0.2.0"}
            inner = table.create_group(key, attributes={**encoding, "ordered": False})
            write_array(inner, "codes", column.codes, len(column.codes))
            _write_texts(inner, "categories", column.texts)
        elif column.dtype == object:
            _write_texts(table, key, column.tolist())
        else:
            write_array(table, key, column, len(column))


def _write_texts(group: "zarr.Group", name: str, texts: Sequence[str]) -> None:
    attributes: dict[str, Any] = {"encoding-type": "string-array", "encoding-version": "0.2.0"}
    array = group.create_array(
        name, shape=(len(texts),), dtype=str, chunks=(max(1, len(texts)),), attributes=attributes
    )
    array[:] = np.array(texts, dtype=object)
