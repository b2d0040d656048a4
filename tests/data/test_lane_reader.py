"""What a lane reads is what the sampler says, from memory and from files, in order and after a jump."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from xtrimogene.config import SamplingConfig
from xtrimogene.data.cell_store import CellsInMemory, CellStore, join, open_stores
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.lane_reader import LaneReader
from xtrimogene.data.sampler import Sampler

GENES = GeneVocabulary(tuple(f"GENE{i}" for i in range(300)), ("",) * 300)
CONFIG = SamplingConfig(num_lanes=3, block_size=4, buffer_size=30)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    paths = []
    for number, num_cells in enumerate((31, 8, 20)):
        counts = random.poisson(1.0, (num_cells, 300)).astype(np.float32)
        counts[::5, 50:] = 0  # cells of few genes, left out
        paths.append(tmp_path / f"{number}.h5ad")
        anndata.AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=list(GENES.symbols))).write_h5ad(paths[-1])
    return paths


def open_both(files: list[Path]) -> tuple[CellStore, CellStore, Sampler]:
    in_memory, on_disk = (open_stores(files, GENES, min_genes=60, in_memory=choice) for choice in (True, False))
    sampler = Sampler([(len(store.panel), 1.0) for store in in_memory], batch_size=9, config=CONFIG, seed=1)
    return join(in_memory), join(on_disk), sampler


def test_a_lane_reads_the_same_from_memory_and_from_files(files: list[Path]) -> None:
    memory, disk, sampler = open_both(files)
    assert isinstance(memory, CellsInMemory) and not isinstance(disk, CellsInMemory)
    for lane in range(CONFIG.num_lanes):
        readers = [LaneReader(store, sampler, lane) for store in (memory, disk)]
        for step in range(2 * sampler.steps_per_epoch + 2):
            (counts, rows), (same, same_rows) = (reader.read(step) for reader in readers)
            np.testing.assert_array_equal(rows, same_rows)
            np.testing.assert_array_equal(counts.toarray(), same.toarray())
            np.testing.assert_array_equal(counts.toarray(), memory.counts[rows].toarray())


def test_cells_that_were_read_stay_as_they_are(files: list[Path]) -> None:
    memory, disk, sampler = open_both(files)
    reader = LaneReader(disk, sampler, 0)
    for counts, rows in [reader.read(step) for step in range(2 * sampler.steps_per_epoch)]:
        np.testing.assert_array_equal(counts.toarray(), memory.counts[rows].toarray())


def test_an_epoch_of_all_lanes_is_every_cell_once(files: list[Path]) -> None:
    memory, _, sampler = open_both(files)
    readers = [LaneReader(memory, sampler, lane) for lane in range(CONFIG.num_lanes)]
    rows = [reader.read(step)[1] for step in range(sampler.steps_per_epoch) for reader in readers]
    assert sorted(np.concatenate(rows)) == list(range(len(memory.panel)))


def test_a_reader_may_begin_anywhere(files: list[Path]) -> None:
    memory, _, sampler = open_both(files)
    through = LaneReader(memory, sampler, 1)
    steps = [through.read(step)[1] for step in range(12)]
    for step in (11, 3, 7, 0):
        np.testing.assert_array_equal(LaneReader(memory, sampler, 1).read(step)[1], steps[step])
        np.testing.assert_array_equal(through.read(step)[1], steps[step])


def test_each_block_is_read_once_an_epoch(files: list[Path]) -> None:
    memory, disk, sampler = open_both(files)
    ranges: list[tuple[int, int]] = []

    class Recorded:
        measured, panel, sources = disk.measured, disk.panel, disk.sources

        def read(self, start: int, stop: int) -> sparse.csr_matrix:
            ranges.append((start, stop))
            return disk.read(start, stop)

    for lane in range(CONFIG.num_lanes):
        reader = LaneReader(Recorded(), sampler, lane)
        for step in range(sampler.steps_per_epoch):
            reader.read(step)
    rows = [row for start, stop in ranges for row in range(start, stop)]
    assert sorted(rows) == list(range(len(memory.panel)))
    num_blocks = sum(-(-len(store.panel) // CONFIG.block_size) for store in disk.stores)  # type: ignore[attr-defined]
    assert len(ranges) <= num_blocks + CONFIG.num_lanes - 1, "a block is cut only where a lane ends"
