"""An index is a folder: whole or not there, read back as it was, refused where it was damaged."""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xtrimogene.errors import CheckpointError, ConfigError
from xtrimogene.tasks.cell_search.cell_index import CellIndex, IndexedCells, open_index, write_index
from xtrimogene.tasks.cell_search.cell_table import TextColumn
from xtrimogene.tasks.expression_space import ExpressionSpace

CARD = {"model": {"model": "demo", "sha256": "0", "options": {"pool": "all", "read_depth": "f1"}}}


def part(number: int, seed: int, **columns: list[str]) -> IndexedCells:
    return IndexedCells(
        rows=np.random.default_rng(seed).normal(size=(number, 6)).astype(np.float32),
        names=np.array([f"{seed}-{row}" for row in range(number)]),
        columns={
            name: TextColumn(categories=tuple(texts), codes=np.arange(number) % len(texts))
            for name, texts in columns.items()
        },
        source={"name": str(seed)},
    )


@pytest.fixture
def index(tmp_path: Path) -> CellIndex:
    parts = [part(5, 1, label=["a", "b"]), part(4, 2, donor=["x"]), part(3, 3, label=["b", "c"], donor=["y"])]
    return write_index(tmp_path / "index", iter(parts), precision="float32", card=CARD, threads=1)


def test_vectors_and_texts_of_all_parts_are_found(index: CellIndex) -> None:
    assert [source["name"] for source in index.card["sources"]] == ["1", "2", "3"] and len(index.vectors) == 12
    every = np.concatenate([part(number, seed).rows for number, seed in ((5, 1), (4, 2), (3, 3))])
    np.testing.assert_allclose(index.space.center, every.mean(axis=0), atol=1e-6)
    assert index.vectors.search(index.space.directions(every), 1).rows[:, 0].tolist() == list(range(12))
    names, taken = index.cells.take(np.arange(12))
    assert names.tolist() == [f"{seed}-{row}" for number, seed in ((5, 1), (4, 2), (3, 3)) for row in range(number)]
    assert taken["label"].tolist() == ["a", "b", "a", "b", "a", *[None] * 4, "b", "c", "b"]
    assert taken["donor"].tolist() == [*[None] * 5, *["x"] * 4, *["y"] * 3]
    assert index.cells.allowed({"label": "b"}).tolist() == [text == "b" for text in taken["label"]]


def test_axes_of_expression_are_read_back(tmp_path: Path, reference: Any) -> None:
    expression = ExpressionSpace.fit(reference.counts, reference.read)
    axes = expression.place(reference.counts, reference.read)
    rows = np.hstack([reference.embedding, axes]).astype(np.float32)
    cells = IndexedCells(rows=rows, names=np.arange(len(rows)).astype(str), columns={}, source={})
    written = write_index(tmp_path / "index", iter([cells]), expression=expression, card=CARD)
    for field in fields(ExpressionSpace):
        np.testing.assert_array_equal(getattr(written.space.expression, field.name), getattr(expression, field.name))
    asked = written.space.directions(rows)
    np.testing.assert_allclose(np.linalg.norm(asked, axis=1), 1, atol=1e-6)
    assert (written.vectors.search(asked, 1).rows[:, 0] == np.arange(len(rows))).all()


def test_nothing_is_left_of_an_index_that_was_not_finished(tmp_path: Path) -> None:
    def parts() -> Iterator[IndexedCells]:
        yield part(5, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_index(tmp_path / "index", parts(), card=CARD)
    with pytest.raises(ConfigError, match="no cell has counts in the model's genes"):
        write_index(tmp_path / "index", iter([part(0, 1)]), card=CARD)
    assert list(tmp_path.iterdir()) == []


def test_what_was_altered_is_refused(index: CellIndex, tmp_path: Path) -> None:
    card = index.folder / "index.json"
    facts = json.loads(card.read_text())
    for change, words in (
        ({"format": "xtrimogene-index-9"}, "has format 'xtrimogene-index-9'"),
        ({"num_cells": 7}, "is no index of ours"),
        ({"model": {}}, "is no index of ours"),
        ({"model": "demo"}, "is no index of ours"),
        ({"model": CARD["model"] | {"sha256": 7}}, "is no index of ours"),
        ({"model": CARD["model"] | {"options": {"pool": "max"}}}, "is no index of ours"),
        ({"model": CARD["model"] | {"options": ["max", "f1"]}}, "is no index of ours"),
        ({"sha256": {}}, "is no index of ours"),
    ):
        card.write_text(json.dumps(facts | change))
        with pytest.raises(CheckpointError, match=words):
            open_index(index.folder)
    card.write_text(json.dumps(facts))
    for name in ("vectors.usearch", "space.safetensors", "cells.h5"):
        whole = (index.folder / name).read_bytes()
        (index.folder / name).write_bytes(whole[:-9])
        with pytest.raises(CheckpointError, match=f"{name} is not the file this index was written with"):
            open_index(index.folder)
        (index.folder / name).unlink()
        with pytest.raises(CheckpointError, match=f"no index at .* it has no {name}"):
            open_index(index.folder)
        (index.folder / name).write_bytes(whole)
    assert len(open_index(index.folder).vectors) == 12
    with pytest.raises(CheckpointError, match=r"it has no index\.json"):
        open_index(tmp_path)
