"""An index of cells on disk: vectors.usearch, cells.h5 and index.json, which says whose vectors they are.

No file is a pickle. index.json holds the sha256 of the other two, which tells a damaged file, not one that was made to
mislead: open an index of somebody you trust.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Shaped

from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.errors import CheckpointError, ConfigError
from xtrimogene.long_work import progress_bar, temporary_folder
from xtrimogene.tasks.cell_search.cell_table import CellTable, TextColumn
from xtrimogene.tasks.cell_search.vector_index import BLOCK_ROWS, VectorIndex, VectorPrecision

FORMAT = "xtrimogene-index-1"
CARD, VECTORS, CELLS = "index.json", "vectors.usearch", "cells.h5"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IndexedCells:
    """Cells to be found: a vector, a name and text columns of each, and where they come from."""

    vectors: Float32[np.ndarray, "n P"]
    names: Shaped[np.ndarray, " n"]
    columns: Mapping[str, TextColumn]
    source: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CellIndex:
    """Vectors, what is known of their cells, and the card: ``card["model"]`` says how the vectors were made."""

    folder: Path
    vectors: VectorIndex
    cells: CellTable
    card: Mapping[str, Any]


def write_index(
    folder: Path,
    parts: Iterable[IndexedCells],
    *,
    precision: VectorPrecision = "float16",
    card: Mapping[str, Any],
    threads: int = 0,
    progress: bool = False,
) -> CellIndex:
    """Write the folder, which appears when it is whole; vectors wait in a file until their mean is known.

    Memory holds the graph, some 850 bytes a cell at 128 numbers in float16, and a number for each text of each cell;
    the disk holds 405 bytes, and 512 more until the graph is made.

    Raises
    ------
    ConfigError
        There are no cells; or the folder cannot be written.
    """
    with temporary_folder(folder) as scratch:
        place = scratch / "index"
        place.mkdir()
        names, columns, sources = [], _Columns(), []
        total, width = np.zeros(1), 0
        with (scratch / "vectors.f32").open("wb") as waiting:
            for part in parts:
                waiting.write(part.vectors.astype(np.float32).tobytes())
                total = total + part.vectors.sum(axis=0, dtype=np.float64)
                names.append(part.names)
                columns.append(part.columns, len(part.names))
                sources.append(dict(part.source))
                width = part.vectors.shape[1]
        number = sum(map(len, names))
        if not number:
            raise ConfigError("no cell has counts in the model's genes; an index needs at least one.")
        vectors = np.memmap(scratch / "vectors.f32", dtype=np.float32, mode="r", shape=(number, width))
        center = (total / number).astype(np.float32)
        index = VectorIndex.empty(center, precision)
        with progress_bar("Placing cells", number, shown=progress) as advance:
            for start in range(0, number, BLOCK_ROWS):
                block = np.array(vectors[start : start + BLOCK_ROWS])
                index.add(block, threads=threads)
                advance(len(block))
        index.save(place / VECTORS)
        CellTable.write(place / CELLS, np.concatenate(names), columns.whole())
        facts = {
            "format": FORMAT,
            "num_cells": number,
            "precision": precision,
            "center": center.tolist(),
            "sources": sources,
            "sha256": {name: file_sha256(place / name) for name in (VECTORS, CELLS)},
            **card,
        }
        (place / CARD).write_text(json.dumps(facts, indent=1) + "\n")
        os.replace(place, folder)
    return open_index(folder)


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
        for name in (VECTORS, CELLS):
            if file_sha256(place / name) != card["sha256"][name]:
                raise CheckpointError(f"{place / name} is not the file this index was written with; build it again.")
        vectors = VectorIndex.open(place / VECTORS, np.array(card["center"], dtype=np.float32))
        cells = CellTable.open(place / CELLS)
        if not len(vectors) == len(cells) == card["num_cells"]:
            raise ConfigError("its files hold different numbers of cells")
        return CellIndex(folder=place, vectors=vectors, cells=cells, card=card)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no index at {os.fspath(folder)!r} as xtrimogene.tl.build_index writes it: "
            f"it has no {Path(error.filename).name}."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{os.fspath(folder)!r} is no index of ours ({error}); build it again.") from error


class _Columns:
    """Columns of one part after another; a part that lacks one has none of its texts."""

    def __init__(self) -> None:
        self.num_cells = 0
        self.numbers: dict[str, dict[str, int]] = {}
        self.codes: dict[str, list[Int[np.ndarray, " n"]]] = {}

    def append(self, columns: Mapping[str, TextColumn], num_cells: int) -> None:
        for name in [*columns, *(name for name in self.numbers if name not in columns)]:
            if name not in self.numbers:
                self.numbers[name], self.codes[name] = {}, [np.full(self.num_cells, -1, dtype=np.int32)]
            if name not in columns:
                self.codes[name].append(np.full(num_cells, -1, dtype=np.int32))
                continue
            known, column = self.numbers[name], columns[name]
            of_own = [known.setdefault(category, len(known)) for category in column.categories]
            self.codes[name].append(np.array([*of_own, -1], dtype=np.int32)[column.codes])
        self.num_cells += num_cells

    def whole(self) -> dict[str, TextColumn]:
        return {
            name: TextColumn(categories=tuple(known), codes=np.concatenate(self.codes[name]))
            for name, known in self.numbers.items()
        }
