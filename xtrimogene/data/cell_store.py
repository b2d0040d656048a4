"""Cells of one or more sources over one gene list, read by ranges of rows: what training reads from.

Letters: N cells, G genes, R gene panels.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int64, UInt64
from scipy import sparse

from xtrimogene.data.blocks import open_cells
from xtrimogene.data.cell_hashes import gene_keys, hash_cells
from xtrimogene.data.file_hashes import content_sha256
from xtrimogene.data.gene_panels import panels_of_batches
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.data.naming import naming
from xtrimogene.data.store_format import is_store
from xtrimogene.data.store_reader import StoreReader
from xtrimogene.errors import ConfigError, CountsError

HASHED_AT_ONCE = 4096
Block = tuple[int, sparse.csr_matrix]


@runtime_checkable
class CellStore(Protocol):
    """Cells in their order; a panel is a file, or a batch of a file that joins several."""

    @property
    def measured(self) -> Bool[np.ndarray, "R G"]:
        """Which genes each panel measured."""

    @property
    def panel(self) -> Int64[np.ndarray, "N"]:
        """The row of ``measured`` of each cell."""

    @property
    def sources(self) -> tuple[dict[str, Any], ...]:
        """What was read, file by file, for a model's card."""

    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return the counts of cells ``start`` to ``stop``, cells x G."""


@dataclass(frozen=True, slots=True)
class CellsInMemory:
    """One matrix holds all cells."""

    counts: sparse.csr_matrix
    measured: Bool[np.ndarray, "R G"]
    panel: Int64[np.ndarray, "N"]
    sources: tuple[dict[str, Any], ...] = ()

    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        return self.counts[start:stop]


class CellsInFile:
    """The cells of an .h5ad or .zarr that have ``min_genes`` genes, left in their file.

    The file is read once, to find them and to check every count; each process that reads opens it for itself.

    Parameters
    ----------
    joined_by
        For a file that joins batches with other genes each: the column of obs that names the batch.

    Raises
    ------
    CountsError
        A file without counts.
    GeneMatchError
        A file whose genes are not the vocabulary's.
    FieldError
        A column that the file lacks.
    """

    def __init__(
        self, file: str | os.PathLike[str], genes: GeneVocabulary, *, min_genes: int, joined_by: str | None = None
    ) -> None:
        self.file = Path(file)
        with open_cells(file) as cells:
            matched = MatchedCounts.find(cells, genes)
            lengths = [np.diff(block.indptr) for _, block in matched.blocks()]
            matched.match.require(matched.counts_per_column)
            kept = np.concatenate([np.zeros(0, dtype=np.int32), *lengths]) >= min_genes
            blocks = _kept(matched.blocks(), kept) if joined_by is not None else iter(())
            self.measured, self.panel = _panels(matched, blocks, kept, joined_by)
        self._rows = np.flatnonzero(kept)
        self._choice, self._match = matched.choice, matched.match
        self._opened: tuple[int, MatchedCounts] | None = None  # by which process
        self.sources = (_source(self.file, kept, joined_by, len(self.measured)),)

    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        rows = self._rows[start:stop]
        if len(rows) == 0:
            return sparse.csr_matrix((0, self.measured.shape[1]), dtype=np.float32)
        return _selected(rows, self._matched().rows)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}  # an open file does not travel to another process

    def close(self) -> None:
        if self._opened is not None:
            self._opened[1].cells.close()
            self._opened = None

    def _matched(self) -> MatchedCounts:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), MatchedCounts(open_cells(self.file), self._choice, self._match)
        return self._opened[1]


def read_cells(
    file: str | os.PathLike[str], genes: GeneVocabulary, *, min_genes: int, joined_by: str | None = None
) -> CellsInMemory:
    """Read the cells that `CellsInFile` would leave in their file; the same arguments and errors."""
    with open_cells(file) as cells:
        matched = MatchedCounts.find(cells, genes)
        matrix = matched.all()
        matched.match.require(matched.counts_per_column)
        kept = np.diff(matrix.indptr) >= min_genes
        counts = matrix[kept]
        measured, panel = _panels(matched, iter([(0, counts)]), kept, joined_by)
    return CellsInMemory(counts, measured, panel, (_source(Path(file), kept, joined_by, len(measured)),))


class JoinedCells:
    """Stores one after the other, their cells numbered through."""

    def __init__(self, stores: Sequence[CellStore]) -> None:
        self.stores = tuple(stores)
        first_panel = np.cumsum([0, *(len(store.measured) for store in stores)])
        self.measured = np.concatenate([store.measured for store in stores])
        self.panel = np.concatenate([store.panel + first for store, first in zip(stores, first_panel, strict=False)])
        self.sources = tuple(source for store in stores for source in store.sources)
        self._ends = np.cumsum([len(store.panel) for store in stores])

    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        if start == stop:
            return sparse.csr_matrix((0, self.measured.shape[1]), dtype=np.float32)
        parts = []
        for store, end in zip(self.stores, self._ends, strict=True):
            first = end - len(store.panel)
            low, high = max(start, first), min(stop, end)
            if low < high:
                parts.append(store.read(int(low - first), int(high - first)))
        return parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")


class SelectedCells:
    """Some cells of a store, in its order."""

    def __init__(self, store: CellStore, rows: Int64[np.ndarray, "n"]) -> None:
        self.store, self.rows = store, rows
        self.measured, self.panel, self.sources = store.measured, store.panel[rows], store.sources

    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        rows = self.rows[start:stop]
        if len(rows) == 0:
            return self.store.read(0, 0)
        return _selected(rows, self.store.read)


def open_stores(
    files: Sequence[str | os.PathLike[str]],
    genes: GeneVocabulary,
    *,
    min_genes: int,
    joined_by: Mapping[str, str] = MappingProxyType({}),
    in_memory: bool = True,
) -> list[CellStore]:
    """Open files for training, one store each: .h5ad, .zarr, or what `xtrimogene store build` wrote.

    Parameters
    ----------
    in_memory
        Read the cells of .h5ad and .zarr into memory. A built store is always read block by block.

    Raises
    ------
    As `CellsInFile` and `StoreReader`.
    CountsError
        No cell is left.
    ConfigError
        ``joined_by`` for a built store: its batches were told apart when it was built.
    """
    stores = [_open_one(file, genes, min_genes, joined_by.get(str(file)), in_memory) for file in files]
    if not sum(len(store.panel) for store in stores):
        raise CountsError(f"No cell has {min_genes} expressed genes; lower min_genes or give other files.")
    return stores


def open_built_store(file: str | os.PathLike[str], genes: GeneVocabulary, joined_by: str | None) -> StoreReader:
    """Open what `xtrimogene store build` wrote; raises as `open_stores`."""
    if joined_by is not None:
        raise ConfigError(f"{file} is a built store and knows its batches; leave it out of joined_by.")
    return StoreReader(file, genes)


def join(stores: Sequence[CellStore]) -> CellStore:
    """Return one store of all cells; in memory, where each of them is."""
    joined = JoinedCells(stores)
    in_memory = [store for store in stores if isinstance(store, CellsInMemory)]
    if len(in_memory) < len(stores):
        return joined
    counts = sparse.vstack([store.counts for store in in_memory], format="csr")
    return CellsInMemory(counts, joined.measured, joined.panel, joined.sources)


def hash_store(store: CellStore, genes: GeneVocabulary) -> UInt64[np.ndarray, "N"]:
    """Hash every cell over the genes of the store; a built store has kept its hashes."""
    if isinstance(store, StoreReader):
        return store.column("cell_hash")
    if isinstance(store, JoinedCells):
        return np.concatenate([hash_store(part, genes) for part in store.stores])
    if isinstance(store, SelectedCells):
        return hash_store(store.store, genes)[store.rows]
    keys, num_cells = gene_keys(genes), len(store.panel)
    starts = range(0, num_cells, HASHED_AT_ONCE)
    hashes = [hash_cells(store.read(start, min(start + HASHED_AT_ONCE, num_cells)), keys) for start in starts]
    return np.concatenate(hashes)


def sample_cells(store: CellStore, num_cells: int, *, block_size: int, seed: int) -> CellsInMemory:
    """Read about so many cells in blocks drawn at random; all of them where there are no more."""
    if isinstance(store, CellsInMemory) and len(store.panel) <= num_cells:
        return store
    starts = np.arange(0, len(store.panel), block_size)
    num_blocks = min(len(starts), -(-num_cells // block_size))
    drawn = np.sort(np.random.default_rng(seed).choice(starts, num_blocks, replace=False))
    ranges = [(int(start), min(int(start) + block_size, len(store.panel))) for start in drawn]
    counts = sparse.vstack([store.read(*rows) for rows in ranges], format="csr")
    panel = np.concatenate([store.panel[start:stop] for start, stop in ranges])
    return CellsInMemory(counts, store.measured, panel, store.sources)


def _open_one(
    file: str | os.PathLike[str], genes: GeneVocabulary, min_genes: int, joined_by: str | None, in_memory: bool
) -> CellStore:
    if not is_store(file):
        with naming(Path(file).name):
            return (read_cells if in_memory else CellsInFile)(file, genes, min_genes=min_genes, joined_by=joined_by)
    store = open_built_store(file, genes, joined_by)
    kept = store.lengths >= min_genes
    return store if kept.all() else SelectedCells(store, np.flatnonzero(kept))


def _selected(rows: Int64[np.ndarray, "n"], read: Callable[[int, int], sparse.csr_matrix]) -> sparse.csr_matrix:
    """Read ascending rows, at least one, out of the range that holds them."""
    first, last = int(rows[0]), int(rows[-1])
    block = read(first, last + 1)
    return block if len(rows) == last + 1 - first else block[rows - first]


def _panels(
    matched: MatchedCounts, kept_blocks: Iterator[Block], kept: Bool[np.ndarray, "all"], joined_by: str | None
) -> tuple[Bool[np.ndarray, "R G"], Int64[np.ndarray, "N"]]:
    if joined_by is None:
        return matched.match.measured[None], np.zeros(int(kept.sum()), dtype=np.int64)
    batches = matched.cells.obs_column(joined_by)[kept]
    return panels_of_batches(kept_blocks, matched.match.measured, batches)


def _kept(blocks: Iterator[Block], kept: Bool[np.ndarray, "all"]) -> Iterator[Block]:
    """The kept rows of each block, numbered by themselves."""
    first = 0
    for start, block in blocks:
        rows = kept[start : start + block.shape[0]]
        yield first, block[rows]
        first += int(rows.sum())


def _source(file: Path, kept: Bool[np.ndarray, "all"], joined_by: str | None, num_panels: int) -> dict[str, Any]:
    source: dict[str, Any] = {"file": file.name, "cells": int(kept.sum()), "cells_left_out": int((~kept).sum())}
    source["sha256"] = content_sha256(file)
    return source if joined_by is None else {**source, "joined_by": joined_by, "batches": num_panels}
