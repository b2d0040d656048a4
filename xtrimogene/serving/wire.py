"""Cells and answers as Arrow IPC streams: what goes over the network.

Cells: one row a cell; ``genes`` (list of uint16 or uint32) are places in the list of genes, ``counts`` (list of a
number) their counts, ``cell`` (string, may be left out) its name. The schema's metadata holds, under "xtrimogene",
JSON: ``{"format": "cells-1", "genes": {"var_names": [...], ...}}``, each field as long as there are genes. Where the
genes are a model's own, in its order, ``"genes_sha256"`` (that of its genes.tsv), ``"num_genes"`` and ``"measured"``
(base64 of `numpy.packbits`) stand for them: what was matched once need not be matched with every request.
Answers: one row a cell, in the order asked; the metadata holds ``{"format": "answer-1", "record": {...}, ...}``.

Nothing here trusts a body: a size is checked before what has it is made. The reader that calls `read_cells` runs in a
process of its own with bounded memory, as Arrow allocates what a compressed buffer declares.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from scipy.sparse import csr_matrix

from xtrimogene.errors import FileFormatError, LimitError, MissingExtraError
from xtrimogene.serving.limits import Limits

try:
    import pyarrow as pa
except ImportError:
    raise MissingExtraError("Arrow needs an extra: pip install 'xtrimogene[serve]', or 'xtrimogene[client]'.") from None

ARROW = "application/vnd.apache.arrow.stream"
KEY = b"xtrimogene"
CELLS, ANSWER = "cells-1", "answer-1"
_ROWS = 512  # of a record batch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ModelGenes:
    """The genes of a model, in its order, and which of them were measured."""

    sha256: str
    measured: Bool[np.ndarray, " G"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WireCells:
    """Cells x genes as they were sent; ``genes`` are all names of each gene, by field, or those of a model."""

    counts: csr_matrix
    genes: Mapping[str, Sequence[str]] | ModelGenes
    names: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answer:
    """Columns of one value, or one vector, a cell; ``meta`` is JSON."""

    columns: Mapping[str, Any]
    meta: Mapping[str, Any]


def write_cells(cells: WireCells) -> bytes:
    """Write a request body: zstd, and uint16 where it fits."""
    counts = cells.counts
    whole = bool((counts.data == np.floor(counts.data)).all()) and counts.data.min(initial=0) >= 0
    largest = counts.data.max(initial=0)
    number = np.uint16 if whole and largest < 2**16 else np.uint32 if whole and largest < 2**32 else np.float32
    place = np.uint16 if counts.shape[1] <= 2**16 else np.uint32
    genes, values = counts.indices.astype(place), counts.data.astype(number)
    fields = [
        pa.field("genes", pa.list_(pa.from_numpy_dtype(place))),
        pa.field("counts", pa.list_(pa.from_numpy_dtype(number))),
    ]
    if cells.names is not None:
        fields.insert(0, pa.field("cell", pa.string()))
    meta = {"format": CELLS, **_write_genes(cells.genes)}
    sink = pa.BufferOutputStream()
    schema = pa.schema(fields, metadata={KEY: json.dumps(meta, separators=(",", ":")).encode()})
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for start in range(0, counts.shape[0], _ROWS):
            offsets = counts.indptr[start : start + _ROWS + 1]
            inside = slice(offsets[0], offsets[-1])
            lists = [
                pa.ListArray.from_arrays((offsets - offsets[0]).astype(np.int32), flat[inside])
                for flat in (genes, values)
            ]
            if cells.names is not None:
                lists.insert(0, pa.array(list(cells.names[start : start + _ROWS]), pa.string()))
            writer.write_batch(pa.record_batch(lists, schema=schema))
    return sink.getvalue().to_pybytes()


def read_cells(body: bytes, limits: Limits) -> WireCells:
    """Read a request body.

    Raises
    ------
    FileFormatError
        It is no stream of cells.
    LimitError
        More cells, genes, values or bytes than the limits allow.
    """
    try:
        with pa.ipc.open_stream(pa.BufferReader(body)) as stream:
            genes = _read_genes(stream.schema, limits)
            parts = list(_batches(stream, len(body), limits))
    except pa.ArrowMemoryError:
        raise LimitError("The body asks for more memory than one request may have; send fewer cells.") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, IndexError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise FileFormatError(
            f"The body is no Arrow IPC stream of cells ({reason}); send what xt.Client writes."
        ) from None
    num_genes = len(genes.measured) if isinstance(genes, ModelGenes) else len(next(iter(genes.values())))
    lengths = np.concatenate([np.zeros(1, np.int64), *(part.lengths for part in parts)])
    places = np.concatenate([np.zeros(0, np.int64), *(part.places for part in parts)])
    values = np.concatenate([np.zeros(0, np.float32), *(part.values for part in parts)])
    strange = places[(places < 0) | (places >= num_genes)]
    if len(strange):
        raise FileFormatError(
            f"A cell has a gene at place {strange[0]:,}, and {num_genes:,} genes are listed; count from 0."
        )
    counts = csr_matrix((values, places, np.cumsum(lengths)), shape=(len(lengths) - 1, num_genes))
    stored = counts.nnz
    counts.sum_duplicates()
    if counts.nnz < stored:
        raise FileFormatError("A cell lists the same gene twice; give each gene of a cell once.")
    names = None if not parts or parts[0].names is None else [name for part in parts for name in part.names or ()]
    return WireCells(counts=counts, genes=genes, names=names)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    lengths: Int64[np.ndarray, " B"]
    places: Int64[np.ndarray, " N"]
    values: Any
    names: list[str] | None


def _batches(stream: pa.RecordBatchStreamReader, sent: int, limits: Limits) -> Any:
    num_cells = decoded = num_values = 0
    names = stream.schema.names
    missing = [name for name in ("genes", "counts") if names.count(name) != 1]
    if missing or names.count("cell") > 1:
        raise FileFormatError(
            f"The body has the columns {', '.join(names) or 'none'}; genes and counts are needed, once each."
        )
    for name in ("genes", "counts"):
        kind = stream.schema.field(name).type
        inner = kind.value_type if pa.types.is_list(kind) else None
        fits = inner is not None and (pa.types.is_integer(inner) or (name == "counts" and pa.types.is_floating(inner)))
        if not fits:
            raise FileFormatError(
                f"The column {name!r} is of {kind}; a list of {'integers' if name == 'genes' else 'numbers'} is needed."
            )
    if "cell" in names and not pa.types.is_string(stream.schema.field("cell").type):
        raise FileFormatError(f"The column 'cell' is of {stream.schema.field('cell').type}; string is needed.")
    for batch in stream:
        batch.validate(full=True)
        num_cells, decoded = num_cells + batch.num_rows, decoded + batch.nbytes
        _limit(num_cells, limits.max_cells, "cells")
        _limit(decoded, limits.max_decoded_bytes, "bytes, decompressed")
        if decoded > max(limits.max_ratio * sent, 1 << 20):
            raise LimitError(
                f"the body grows more than {limits.max_ratio} times when it is decompressed; send counts, not zeros."
            )
        genes, counts = batch.column("genes"), batch.column("counts")
        if genes.null_count or counts.null_count or genes.flatten().null_count or counts.flatten().null_count:
            raise FileFormatError("A cell has a missing value; leave out genes that have no count.")
        lengths = genes.value_lengths().to_numpy().astype(np.int64)
        if not np.array_equal(lengths, counts.value_lengths().to_numpy()):
            raise FileFormatError("A cell has not as many genes as counts; give one count a gene.")
        num_values += int(lengths.sum())
        _limit(num_values, limits.max_nonzeros, "counts")
        own = None
        if "cell" in names:
            own = batch.column("cell").to_pylist()
            if None in own:
                raise FileFormatError("A cell has no name; name every cell, or leave the column 'cell' out.")
        places = genes.flatten().to_numpy(zero_copy_only=False)
        if places.dtype == np.uint64 and len(places) and places.max() >= 2**63:
            raise FileFormatError("A gene's place is no number of a list; count from 0.")
        yield _Part(
            lengths, places.astype(np.int64), counts.flatten().to_numpy(zero_copy_only=False).astype(np.float32), own
        )


def _limit(number: int, most: int, what: str) -> None:
    if number > most:
        raise LimitError(f"The body holds more than the {most:,} {what} that one request may have; send it in parts.")


def _write_genes(genes: Mapping[str, Sequence[str]] | ModelGenes) -> dict[str, Any]:
    if not isinstance(genes, ModelGenes):
        return {"genes": {name: list(column) for name, column in genes.items()}}
    bits = base64.b64encode(np.packbits(genes.measured).tobytes()).decode()
    return {"genes_sha256": genes.sha256, "num_genes": len(genes.measured), "measured": bits}


def _read_genes(schema: pa.Schema, limits: Limits) -> dict[str, list[str]] | ModelGenes:
    meta = _read_meta(schema, CELLS)
    if "genes_sha256" not in meta:
        return checked_genes(meta.get("genes"), limits)
    sha256, number, bits = (meta.get(name) for name in ("genes_sha256", "num_genes", "measured"))
    try:
        packed = base64.b64decode(bits, validate=True) if isinstance(bits, str) else b""
    except ValueError:
        packed = b""
    if not isinstance(sha256, str) or type(number) is not int or number < 1 or len(packed) != -(-number // 8):
        raise FileFormatError("genes_sha256 needs num_genes, a number, and measured, base64 of as many bits.")
    _limit(number, limits.max_genes, "genes")
    return ModelGenes(sha256=sha256, measured=np.unpackbits(np.frombuffer(packed, np.uint8), count=number).astype(bool))


def checked_genes(genes: object, limits: Limits) -> dict[str, list[str]]:
    """Return lists of names, by field, all as long as there are genes.

    Raises
    ------
    FileFormatError
        They are something else.
    LimitError
        Too many.
    """
    if not isinstance(genes, dict) or not genes:
        raise FileFormatError(
            'The list of genes is missing: {"var_names": [...]} is needed, with a name for each gene.'
        )
    columns = list(genes.values())
    if not all(isinstance(column, list) and all(isinstance(name, str) for name in column) for column in columns):
        raise FileFormatError("The genes are no lists of names; give texts.")
    if len({len(column) for column in columns}) > 1 or not columns[0]:
        raise FileFormatError("The lists of genes differ in length, or are empty; give each gene a name in each.")
    _limit(len(columns[0]), limits.max_genes, "genes")
    _limit(len(columns), 16, "lists of genes")
    return genes


def _read_meta(schema: pa.Schema, wanted: str) -> dict[str, Any]:
    text = (schema.metadata or {}).get(KEY)
    try:
        meta = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict) or meta.get("format") != wanted:
        raise FileFormatError(f"The schema's metadata has no JSON of format {wanted!r} under {KEY.decode()!r}.")
    return meta


def write_answer(answer: Answer) -> bytes:
    arrays = {name: _to_arrow(column) for name, column in answer.columns.items()}
    meta = {"format": ANSWER, **answer.meta}
    schema = pa.schema(
        [pa.field(name, array.type) for name, array in arrays.items()],
        metadata={KEY: json.dumps(meta, default=plain).encode()},
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.table(list(arrays.values()), schema=schema), max_chunksize=_ROWS)
    return sink.getvalue().to_pybytes()


def plain(value: object) -> Any:
    """Turn what NumPy has into what JSON has."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is nothing that JSON holds")


def read_answer(body: bytes) -> Answer:
    with pa.ipc.open_stream(pa.BufferReader(body)) as stream:
        meta = _read_meta(stream.schema, ANSWER)
        table = stream.read_all().combine_chunks()
    return Answer(columns={name: _to_numpy(table.column(name)) for name in table.column_names}, meta=meta)


def _to_arrow(column: Any) -> pa.Array:
    if isinstance(column, np.ndarray) and column.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(column).ravel()), column.shape[1])
    return pa.array(column)


def _to_numpy(column: pa.ChunkedArray) -> Any:
    if pa.types.is_fixed_size_list(column.type):
        flat = column.combine_chunks()
        values = flat.chunk(0) if isinstance(flat, pa.ChunkedArray) and flat.num_chunks else flat
        return values.flatten().to_numpy().reshape(len(column), column.type.list_size)
    return column.to_pandas().to_numpy()
