"""An index of cells on disk: vectors.usearch, space.safetensors, cells.h5 and index.json, which says whose they are.

No file is a pickle. index.json holds the sha256 of the others, which tells a damaged file, not one that was made to
mislead: open an index of somebody you trust.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped
from safetensors import SafetensorError
from safetensors.numpy import load, save

from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.errors import CheckpointError, ConfigError
from xtrimogene.long_work import progress_bar, temporary_folder
from xtrimogene.tasks.cell_search.cell_space import CellSpace
from xtrimogene.tasks.cell_search.cell_table import CellTable, CellTableWriter, TextColumn
from xtrimogene.tasks.cell_search.vector_index import BLOCK_ROWS, VectorIndex, VectorPrecision
from xtrimogene.tasks.expression_space import ExpressionSpace

FORMAT = "xtrimogene-index-1"
CARD, VECTORS, SPACE, CELLS = "index.json", "vectors.usearch", "space.safetensors", "cells.h5"
CENTER = "center"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IndexedCells:
    """Cells to be found: where they lie (embedding, then axes), their names and texts, and where they come from."""

    rows: Float32[np.ndarray, "n W"]
    names: Shaped[np.ndarray, " n"]
    columns: Mapping[str, TextColumn]
    source: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CellIndex:
    """Vectors, what is known of their cells, and the card: ``card["model"]`` says how the vectors were made."""

    folder: Path
    vectors: VectorIndex
    space: CellSpace
    cells: CellTable
    card: Mapping[str, Any]


def write_index(
    folder: Path,
    parts: Iterable[IndexedCells],
    *,
    expression: ExpressionSpace | None = None,
    precision: VectorPrecision = "float16",
    card: Mapping[str, Any],
    threads: int = 0,
    progress: bool = False,
) -> CellIndex:
    """Write the folder, which appears when it is whole; rows wait in a file until their mean is known.

    Memory holds the graph, two to three times what it weighs on disk (505 bytes a cell at 178 numbers in float16), a
    number for each text of each cell, and the rows of one part; rows wait on disk, four bytes a number.

    Raises
    ------
    ConfigError
        There are no cells; or the folder cannot be written.
    """
    with temporary_folder(folder) as scratch:
        place = scratch / "index"
        place.mkdir()
        sources: list[dict[str, Any]] = []
        total, number, width = np.zeros(1), 0, 0
        with (scratch / "rows.f32").open("wb") as waiting, CellTableWriter(place / CELLS) as table:
            for part in parts:
                waiting.write(np.ascontiguousarray(part.rows).data)
                table.append(part.names, part.columns)
                sources.append(dict(part.source))
                total = total + part.rows.sum(axis=0, dtype=np.float64)
                number, width = number + len(part.rows), part.rows.shape[1]
        if not number:
            raise ConfigError("no cell has counts in the model's genes; an index needs at least one.")
        rows = np.memmap(scratch / "rows.f32", dtype=np.float32, mode="r", shape=(number, width))
        space = CellSpace(center=(total / number).astype(np.float32), expression=expression)
        index = VectorIndex.empty(width, precision)
        with progress_bar("Placing cells", number, shown=progress) as advance:
            for start in range(0, number, BLOCK_ROWS):
                block = np.array(rows[start : start + BLOCK_ROWS])
                index.add(space.directions(block), threads=threads)
                advance(len(block))
        index.save(place / VECTORS)
        arrays = {CENTER: space.center} | ({} if expression is None else _arrays(expression))
        (place / SPACE).write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
        facts = {
            "format": FORMAT,
            "num_cells": number,
            "precision": precision,
            "sources": sources,
            "sha256": {name: file_sha256(place / name) for name in (VECTORS, SPACE, CELLS)},
            **card,
        }
        (place / CARD).write_text(json.dumps(facts, indent=1) + "\n")
        os.replace(place, folder)
    return _opened(folder, facts)


def open_index(folder: str | os.PathLike[str]) -> CellIndex:
    """Open an index that `write_index` wrote; its vectors stay on disk.

    Raises
    ------
    CheckpointError
        No such folder, a file missing, altered or of another kind.
    MissingExtraError
        usearch is not installed.
    """
    place = Path(folder)
    try:
        card = json.loads((place / CARD).read_text())
        if card["format"] != FORMAT:
            raise CheckpointError(f"{place / CARD} has format {card['format']!r}; this version reads {FORMAT!r}.")
        for name in (VECTORS, SPACE, CELLS):
            if file_sha256(place / name) != card["sha256"][name]:
                raise CheckpointError(f"{place / name} is not the file this index was written with; build it again.")
        return _opened(place, card)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no index at {os.fspath(folder)!r} as xtrimogene.tl.build_index writes it: "
            f"it has no {Path(error.filename).name}."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{os.fspath(folder)!r} is no index of ours ({error}); build it again.") from error


def _opened(place: Path, card: Mapping[str, Any]) -> CellIndex:
    """Open the files, which are those that were written."""
    arrays = load((place / SPACE).read_bytes())
    center = arrays.pop(CENTER)
    space = CellSpace(center=center, expression=ExpressionSpace(**arrays) if arrays else None)
    vectors = VectorIndex.open(place / VECTORS, len(center))
    cells = CellTable(place / CELLS)
    if not len(vectors) == len(cells) == card["num_cells"]:
        raise ConfigError("its files hold different numbers of cells")
    made = card["model"]
    if {*map(type, (made["model"], made["sha256"], *made["options"].values()))} != {str}:
        raise ConfigError("it does not say how its vectors were made")
    if made["options"].keys() != {"pool", "read_depth"}:
        raise ConfigError("it does not say how its vectors were pooled")
    return CellIndex(folder=place, vectors=vectors, space=space, cells=cells, card=card)


def _arrays(expression: ExpressionSpace) -> dict[str, np.ndarray]:
    return {field.name: getattr(expression, field.name) for field in fields(ExpressionSpace)}
