import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from xtrimogene.errors import FileFormatError, LimitError, XTrimoGeneError
from xtrimogene.serving.json_cells import read_json_cells, write_json_answer
from xtrimogene.serving.limits import Limits
from xtrimogene.serving.wire import (
    KEY,
    Answer,
    ModelGenes,
    WireCells,
    read_answer,
    read_cells,
    write_answer,
    write_cells,
)

GENES = {"var_names": ["CD3D", "MS4A1", "LYZ", "NKG7", "PPBP"], "gene_ids": ["a", "b", "c", "d", "e"]}
LIMITS = Limits()


def cells(counts: object = ((3, 0, 1, 0, 0), (0, 0, 0, 0, 2))) -> WireCells:
    return WireCells(counts=csr_matrix(np.array(counts, dtype=np.float32)), genes=GENES, names=["one", "two"])


@given(arrays(np.float32, (7, 5), elements=st.sampled_from([0, 0, 1, 2, 65_535, 65_536, 0.5, 2**24])))
def test_cells_arrive_as_they_were_sent(counts: np.ndarray) -> None:
    sent = WireCells(counts=csr_matrix(counts), genes=GENES)
    found = read_cells(write_cells(sent), LIMITS)
    assert (found.counts != sent.counts).nnz == 0
    assert found.counts.shape == (7, 5)
    assert found.genes == GENES
    assert found.names is None


def test_small_numbers_travel_as_such() -> None:
    schema = pa.ipc.open_stream(write_cells(cells())).schema
    assert schema.field("genes").type == schema.field("counts").type == pa.list_(pa.uint16())
    fractions = pa.ipc.open_stream(write_cells(cells(((0.5, 0, 0, 0, 0), (1, 0, 0, 0, 0))))).schema
    assert fractions.field("counts").type == pa.list_(pa.float32())


def test_names_and_a_models_genes_travel_too() -> None:
    measured = np.array([True, False, True, True, False])
    sent = WireCells(counts=cells().counts, genes=ModelGenes(sha256="ab", measured=measured), names=["one", "zwei"])
    found = read_cells(write_cells(sent), LIMITS)
    assert isinstance(found.genes, ModelGenes)
    assert found.genes.sha256 == "ab"
    np.testing.assert_array_equal(found.genes.measured, measured)
    assert found.names == ["one", "zwei"]


def test_more_than_one_batch_keeps_its_order() -> None:
    counts = csr_matrix(np.arange(1, 1_301, dtype=np.float32)[:, None])
    found = read_cells(write_cells(WireCells(counts=counts, genes={"var_names": ["CD3D"]})), LIMITS)
    np.testing.assert_array_equal(found.counts.toarray(), counts.toarray())


def body(columns: dict[str, pa.Array] | None = None, meta: object = None, compression: str | None = None) -> bytes:
    columns = columns or {"genes": pa.array([[0, 2]]), "counts": pa.array([[3, 1]])}
    meta = {"format": "cells-1", "genes": GENES} if meta is None else meta
    table = pa.table(columns).replace_schema_metadata({KEY: json.dumps(meta).encode()})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"genes": [[0]]}, "columns genes; genes and counts"),
        ({"genes": [0], "counts": [[1]]}, "'genes' is of int64; a list of integers"),
        ({"genes": [["a"]], "counts": [[1]]}, "a list of integers"),
        ({"genes": [[0]], "counts": [["a"]]}, "a list of numbers"),
        ({"genes": [[0, 1]], "counts": [[1]]}, "not as many genes as counts"),
        ({"genes": [[0, None]], "counts": [[1, 1]]}, "missing value"),
        ({"genes": [[0], [0]], "counts": [[1], None]}, "missing value"),
        ({"genes": [[5]], "counts": [[1]]}, "at place 5, and 5 genes"),
        ({"genes": [[-3, 1]], "counts": [[1, 1]]}, "at place -3, and 5 genes"),
        ({"genes": [[2**63 - 1]], "counts": [[1]]}, "count from 0"),
        ({"genes": [[1, 1]], "counts": [[1, 2]]}, "same gene twice"),
        ({"cell": ["a", None], "genes": [[1], [1]], "counts": [[1], [1]]}, "no name"),
        ({"cell": [7], "genes": [[1]], "counts": [[1]]}, "string is needed"),
    ],
)
def test_columns_that_are_no_cells_are_refused(columns: dict[str, list[object]], told: str) -> None:
    with pytest.raises(FileFormatError, match=told):
        read_cells(body({name: pa.array(column) for name, column in columns.items()}), LIMITS)


@pytest.mark.parametrize(
    "meta",
    [
        {},
        [],
        {"format": "cells-2", "genes": GENES},
        {"format": "cells-1"},
        {"format": "cells-1", "genes": {}},
        {"format": "cells-1", "genes": {"a": []}},
        {"format": "cells-1", "genes": {"a": [1, 2, 3, 4, 5]}},
        {"format": "cells-1", "genes": {"a": ["x"], "b": ["x", "y"]}},
        {"format": "cells-1", "genes_sha256": "x"},
        {"format": "cells-1", "genes_sha256": "x", "num_genes": 5, "measured": "!"},
        {"format": "cells-1", "genes_sha256": "x", "num_genes": -5, "measured": ""},
        {"format": "cells-1", "genes_sha256": "x", "num_genes": True, "measured": "AA=="},
    ],
)
def test_metadata_that_name_no_genes_are_refused(meta: object) -> None:
    with pytest.raises(FileFormatError):
        read_cells(body(meta=meta), LIMITS)


@pytest.mark.parametrize(
    ("limit", "most"), [("max_cells", 1), ("max_genes", 4), ("max_nonzeros", 2), ("max_decoded_bytes", 10)]
)
def test_more_than_is_allowed_is_refused(limit: str, most: int) -> None:
    with pytest.raises(LimitError, match="more than the"):
        read_cells(write_cells(cells()), Limits(**{limit: most}))


def test_zeros_that_grow_when_decompressed_are_refused() -> None:
    many = pa.array([[0] * 1_000_000])
    sent = body({"genes": many, "counts": many}, compression="zstd")
    assert len(sent) < 100_000
    with pytest.raises(LimitError, match="grows more than 20 times"):
        read_cells(sent, Limits(max_ratio=20))


@given(st.data())
def test_a_damaged_body_is_refused_in_a_sentence_or_read(data: st.DataObject) -> None:
    whole = bytearray(write_cells(cells()))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for one in (bytes(whole), bytes(whole[:cut])):
        try:
            found = read_cells(one, LIMITS)
        except XTrimoGeneError as error:
            assert str(error).endswith(".")
        else:
            assert found.counts.shape[1] >= 1


def test_answers_arrive_as_they_were_sent() -> None:
    vectors = np.array([[1, np.nan], [3, 4], [5, 6]], dtype=np.float32)
    sent = Answer(
        columns={"cell": ["a", "b", "c"], "vector": vectors, "label": np.array(["T", None, "B"], object)},
        meta={"record": {"n": np.int64(3)}, "warnings": ["w"]},
    )
    found = read_answer(write_answer(sent))
    np.testing.assert_array_equal(found.columns["vector"], vectors)
    assert found.columns["label"].tolist() == ["T", None, "B"]
    assert found.meta["record"] == {"n": 3}
    plain = json.loads(write_json_answer(sent))
    assert plain["vector"] == [[1.0, None], [3.0, 4.0], [5.0, 6.0]]
    assert plain["warnings"] == ["w"]


def test_json_cells() -> None:
    sent = {"cells": [{"LYZ": 2, "CD3D": 1}, {}], "genes": ["CD3D", "MS4A1", "LYZ"], "names": ["a", "b"]}
    found = read_json_cells(json.dumps(sent).encode(), LIMITS)
    np.testing.assert_array_equal(found.counts.toarray(), [[1, 0, 2], [0, 0, 0]])
    assert found.names == ["a", "b"]
    assert list(found.genes["var_names"]) == ["CD3D", "MS4A1", "LYZ"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no list of cells"),
        (b'{"cells": [3]}', "Cell 0"),
        (b'{"cells": [{"a": "x"}]}', "Cell 0"),
        (b'{"cells": [{"a": true}]}', "Cell 0"),
        (b'{"cells": [{"a": 1}], "genes": ["b"]}', "'a', which is not among"),
        (b'{"cells": [{"a": 1}], "genes": ["a", "a"]}', "listed twice"),
        (b'{"cells": [{"a": 1}], "genes": [1]}', "no lists of names"),
        (b'{"cells": [{"a": 1}], "names": ["x", "y"]}', "a list of 1 texts"),
        (b'{"cells": [{"a": 1}], "model": "x"}', "the field 'model'"),
        (b'{"cells": [{}]}', "empty"),
    ],
)
def test_json_that_is_no_cells_is_refused(sent: bytes, told: str) -> None:
    with pytest.raises(FileFormatError, match=told):
        read_json_cells(sent, LIMITS)


def test_json_beyond_the_limits_is_refused_and_endless_numbers_are_left_to_who_reads_counts() -> None:
    with pytest.raises(LimitError):
        read_json_cells(b'{"cells": [{"a": 1}, {"a": 1}]}', Limits(max_cells=1))
    huge = b'{"cells": [{"a": 1' + b"0" * 400 + b"}]}"
    assert np.isinf(read_json_cells(huge, LIMITS).counts.data).all()
