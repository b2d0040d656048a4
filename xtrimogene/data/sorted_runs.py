"""The first half of an external sort: cells are read file by file and written in runs, each sorted by a random key.

All cells in the order of their keys are a shuffle in which every order is equally likely, whatever the length of the
runs. A run is written under a temporary name and says where the next one begins, so a stopped sort goes on after its
last whole run.
Letters: R batches of a source, G genes.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from scipy.sparse import csr_matrix

from xtrimogene.config import StoreConfig
from xtrimogene.data.block_readers import SLICE
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.store_matrix import MatrixInMaking
from xtrimogene.data.store_plan import PlannedSource
from xtrimogene.data.store_source import CELL, SourceBlock, SourceReader


@dataclass
class SourcePart:
    """What a run holds of one file. ``num_kept`` counts the cells of each batch."""

    batches: list[str]
    donors: list[str]
    num_kept: list[int]
    measured: Bool[np.ndarray, "R G"]
    total_counts: float = 0.0
    matched_counts: float = 0.0

    def merge(self, other: "SourcePart") -> None:
        self.num_kept = [a + b for a, b in zip(self.num_kept, other.num_kept, strict=True)]
        self.measured = self.measured | other.measured
        self.total_counts += other.total_counts
        self.matched_counts += other.matched_counts


def write_runs(
    folder: Path,
    sources: Sequence[PlannedSource],
    config: StoreConfig,
    genes: GeneVocabulary,
    *,
    entries: int,
    advance: Callable[[int], None],
) -> None:
    """Write the runs that are not there yet.

    Parameters
    ----------
    entries
        A run is written as soon as it has so many.
    advance
        Called with the number of cells just read, those of an earlier attempt first.
    """
    folder.mkdir(exist_ok=True)
    written = sorted_runs(folder)
    source, row = written[-1].next if written else (0, 0)
    advance(sum(one.num_cells for one in sources[:source]) + row)
    run = _RunInMaking(genes)
    for place in range(source, len(sources)):
        with open_cells(sources[place].file) as cells:
            reader = SourceReader(cells, place, config, genes)
            for block in reader.blocks(row if place == source else 0, min(SLICE, entries)):
                run.add(reader, block)
                advance(block.num_read)
                if run.num_entries >= entries:
                    run.write(folder / _name(len(written)), (place, block.stop))
                    written.append(SortedRun(folder / _name(len(written))))
                    run = _RunInMaking(genes)
    if run.parts:
        run.write(folder / _name(len(written)), (len(sources), 0))


class _RunInMaking:
    def __init__(self, genes: GeneVocabulary) -> None:
        self.genes = genes
        self.blocks: list[csr_matrix] = []
        self.cells: list[Shaped[np.ndarray, _]] = [np.empty(0, dtype=CELL)]
        self.parts: dict[int, SourcePart] = {}
        self.num_entries = 0

    def add(self, reader: SourceReader, block: SourceBlock) -> None:
        batch = block.cells["batch"]
        num_kept = np.bincount(batch, minlength=len(reader.batches))
        measured = np.tile(reader.matched.match.measured, (len(num_kept), 1))
        if len(num_kept) > 1:  # an outer join: a gene without a count was not measured, as in `panels_of_batches`
            for one in range(len(num_kept)):
                measured[one] &= block.counts[batch == one].getnnz(axis=0) > 0
        part = SourcePart(
            reader.batches, reader.donors, num_kept.tolist(), measured, block.total_counts, block.matched_counts
        )
        if reader.source in self.parts:
            self.parts[reader.source].merge(part)
        else:
            self.parts[reader.source] = part
        self.blocks.append(block.counts)
        self.cells.append(block.cells)
        self.num_entries += block.counts.nnz

    def write(self, folder: Path, following: tuple[int, int]) -> None:
        import zarr

        cells = np.concatenate(self.cells)
        order = np.argsort(cells["key"], kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        largest = max((int(block.data.max(initial=0)) for block in self.blocks), default=0)
        matrix = MatrixInMaking(cells["num_genes"][order].astype(np.int64), len(self.genes), largest)
        first = 0
        while self.blocks:  # each is freed once it is copied
            block = self.blocks.pop(0)
            matrix.put(block, place[first : first + block.shape[0]])
            first += block.shape[0]
        unfinished = folder.with_name(f".{folder.name}")
        rmtree(unfinished, ignore_errors=True)
        matrix.write(zarr.create_group(unfinished, zarr_format=3))
        np.save(unfinished / "cells.npy", cells[order])
        measured: dict[str, Any] = {str(place): part.measured for place, part in self.parts.items()}
        np.savez(unfinished / "measured.npz", **measured)
        (unfinished / "run.json").write_text(json.dumps(self._record(largest, following)))
        unfinished.rename(folder)

    def _record(self, largest: int, following: tuple[int, int]) -> dict[str, Any]:
        parts = {
            str(place): {
                "batches": part.batches,
                "donors": part.donors,
                "num_kept": part.num_kept,
                "total_counts": part.total_counts,
                "matched_counts": part.matched_counts,
            }
            for place, part in self.parts.items()
        }
        return {"next": following, "largest_count": largest, "num_entries": self.num_entries, "sources": parts}


class SortedRun:
    """A run on disk; ``next`` is the source and row after its last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        record = json.loads((folder / "run.json").read_text())
        self.next: tuple[int, int] = (record["next"][0], record["next"][1])
        self.largest_count: int = record["largest_count"]
        self.num_entries: int = record["num_entries"]
        self._parts: dict[str, dict[str, Any]] = record["sources"]

    def parts(self) -> dict[int, SourcePart]:
        with np.load(self.folder / "measured.npz") as measured:
            return {int(place): SourcePart(**part, measured=measured[place]) for place, part in self._parts.items()}


def sorted_runs(folder: Path) -> list[SortedRun]:
    return [SortedRun(path) for path in sorted(folder.glob("run_*"))]


def _name(number: int) -> str:
    return f"run_{number:06d}"
