"""Cells of several files over one gene list, in memory or left in their files."""

import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from xtrimogene.config import StoreConfig
from xtrimogene.data.cell_store import (
    CellsInFile,
    CellsInMemory,
    CellStore,
    hash_store,
    join,
    open_stores,
    sample_cells,
)
from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.store_builder import build_store
from xtrimogene.data.store_reader import StoreReader
from xtrimogene.errors import ConfigError, CountsError, FieldError, GeneMatchError

GENES = GeneVocabulary(tuple(f"GENE{i}" for i in range(300)), ("",) * 300)


def write(path: Path, names: list[str], *, num_cells: int = 6, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    counts = random.poisson(1.5, (num_cells, len(names))).astype(np.float32)
    counts[0] = 0
    counts[0, :3] = 1  # a cell of three genes
    anndata.AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=names)).write_h5ad(path)
    return counts


def opened(
    files: list[Path], in_memory: bool, *, min_genes: int = 10, joined_by: dict[str, str] | None = None
) -> CellStore:
    return join(open_stores(files, GENES, min_genes=min_genes, joined_by=joined_by or {}, in_memory=in_memory))


def all_counts(cells: CellStore) -> np.ndarray:
    return cells.read(0, len(cells.panel)).toarray()


in_both_places = pytest.mark.parametrize("in_memory", [True, False])


@in_both_places
def test_cells_of_several_files_keep_what_each_measured(tmp_path: Path, in_memory: bool) -> None:
    half = [f"GENE{i}" for i in range(299, 49, -1)]  # another order, without the first fifty
    write(tmp_path / "a.h5ad", list(GENES.symbols), num_cells=5)
    other = write(tmp_path / "b.h5ad", half, num_cells=4, seed=1)
    cells = opened([tmp_path / "a.h5ad", tmp_path / "b.h5ad"], in_memory)
    assert isinstance(cells, CellsInMemory) is in_memory
    assert all_counts(cells).shape == (7, 300)  # each file's first cell has three genes
    assert cells.panel.tolist() == [0] * 4 + [1] * 3
    assert cells.measured[0].all() and cells.measured[1].tolist() == [i >= 50 for i in range(300)]
    np.testing.assert_array_equal(all_counts(cells)[4:, 50:], other[1:, ::-1])
    assert cells.sources == (
        {"file": "a.h5ad", "cells": 4, "cells_left_out": 1, "sha256": file_sha256(tmp_path / "a.h5ad")},
        {"file": "b.h5ad", "cells": 3, "cells_left_out": 1, "sha256": file_sha256(tmp_path / "b.h5ad")},
    )


@in_both_places
def test_a_warning_names_its_file(tmp_path: Path, in_memory: bool) -> None:
    write(tmp_path / "a.h5ad", list(GENES.symbols))
    write(tmp_path / "b.h5ad", [*GENES.symbols[:250], *(f"OTHER{i}" for i in range(150))])
    with pytest.warns(UserWarning, match="^b.h5ad: 250 of 400 genes .* less sure below 80 %"):
        opened([tmp_path / "a.h5ad", tmp_path / "b.h5ad"], in_memory)


@in_both_places
def test_each_batch_of_a_joined_file_is_a_study(tmp_path: Path, in_memory: bool) -> None:
    write(tmp_path / "a.h5ad", list(GENES.symbols), num_cells=4)
    joined = anndata.read_h5ad(tmp_path / "a.h5ad")
    counts = joined.X.toarray()
    counts[1, 200:] = counts[2, 200:] = 0
    joined.X = sparse.csr_matrix(counts)
    joined.obs["chemistry"] = ["v3", "v2", "v2", "v3"]
    joined.write_h5ad(tmp_path / "b.h5ad")
    files = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    cells = opened(files, in_memory, joined_by={str(files[1]): "chemistry"})
    assert cells.panel.tolist() == [0, 0, 0, 1, 1, 2] and cells.measured.shape == (3, 300)
    assert cells.measured[0].all()  # of the file without batches
    np.testing.assert_array_equal(cells.measured[1], (counts[1:3] > 0).any(axis=0))
    np.testing.assert_array_equal(cells.measured[2], counts[3] > 0)  # a cell left out says nothing
    assert cells.sources[1] == {
        "file": "b.h5ad",
        "cells": 3,
        "cells_left_out": 1,
        "sha256": file_sha256(files[1]),
        "joined_by": "chemistry",
        "batches": 2,
    }
    with pytest.raises(FieldError, match="no obs column 'lane'"):
        opened(files, in_memory, joined_by={str(files[0]): "lane"})


@in_both_places
def test_no_cell_with_enough_genes_is_an_error(tmp_path: Path, in_memory: bool) -> None:
    write(tmp_path / "a.h5ad", list(GENES.symbols))
    with pytest.raises(CountsError, match="No cell has 301 expressed genes"):
        opened([tmp_path / "a.h5ad"], in_memory, min_genes=301)


@in_both_places
def test_a_file_of_other_genes_is_an_error(tmp_path: Path, in_memory: bool) -> None:
    write(tmp_path / "a.h5ad", [f"OTHER{i}" for i in range(300)])
    with pytest.raises(GeneMatchError, match="^a.h5ad: "):
        opened([tmp_path / "a.h5ad"], in_memory)


@pytest.mark.parametrize("kind", ["csr", "csc", "dense", "zarr", "log1p"])
def test_any_range_of_cells_is_what_memory_holds(kind: str, tmp_path: Path) -> None:
    names = list(GENES.symbols)
    write(tmp_path / "a.h5ad", names, num_cells=40)
    adata = anndata.read_h5ad(tmp_path / "a.h5ad")
    counts = adata.X.toarray()
    counts[::7, 5:] = 0
    logged = np.log1p(counts * 1e4 / counts.sum(1, keepdims=True))
    adata.X = {"csc": sparse.csc_matrix(counts), "dense": counts, "log1p": sparse.csr_matrix(logged)}.get(
        kind, sparse.csr_matrix(counts)
    )
    file = tmp_path / ("b.zarr" if kind == "zarr" else "b.h5ad")
    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=3):
        warnings.simplefilter("ignore")  # of anndata, about formats to come
        adata.write_zarr(file) if kind == "zarr" else adata.write_h5ad(file)
    memory, disk = opened([file], True, min_genes=20), opened([file], False, min_genes=20)
    np.testing.assert_array_equal(all_counts(disk), all_counts(memory))
    assert 0 < len(memory.panel) < 40
    for start, stop in ((0, 1), (3, 3), (5, 17), (len(memory.panel) - 1, len(memory.panel))):
        np.testing.assert_array_equal(disk.read(start, stop).toarray(), memory.read(start, stop).toarray())


def test_a_range_may_cross_files(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.h5ad", list(GENES.symbols), num_cells=5, seed=ord(name))
    files = [tmp_path / f"{name}.h5ad" for name in "abc"]
    memory, disk = opened(files, True), opened(files, False)
    np.testing.assert_array_equal(disk.read(2, 11).toarray(), memory.read(2, 11).toarray())
    assert disk.panel.tolist() == memory.panel.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_a_file_is_opened_again_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.h5ad", list(GENES.symbols))
    cells = CellsInFile(tmp_path / "a.h5ad", GENES, min_genes=10)
    cells.read(0, 2)
    mine = cells._matched()
    assert cells._matched() is mine
    monkeypatch.setattr("xtrimogene.data.cell_store.os.getpid", lambda: -1)
    assert cells._matched() is not mine
    cells.close()


def test_a_sample_is_of_whole_blocks_and_its_size(tmp_path: Path) -> None:
    write(tmp_path / "a.h5ad", list(GENES.symbols), num_cells=101)
    memory, disk = opened([tmp_path / "a.h5ad"], True), opened([tmp_path / "a.h5ad"], False)
    assert sample_cells(memory, 100, block_size=8, seed=0) is memory
    some = sample_cells(disk, 30, block_size=8, seed=0)
    assert some.counts.shape[0] == len(some.panel) and 25 <= len(some.panel) <= 32
    rows = {row.tobytes() for row in all_counts(memory)}
    sampled = {row.tobytes() for row in some.counts.toarray()}
    assert sampled <= rows and len(sampled) == len(some.panel)
    np.testing.assert_array_equal(all_counts(sample_cells(disk, 200, block_size=8, seed=0)), all_counts(memory))


def test_a_built_store_is_read_from_disk_and_keeps_its_hashes(tmp_path: Path, write_cells: Callable[..., str]) -> None:
    human = GeneVocabulary.human()
    files = tuple(write_cells(tmp_path / f"{name}.h5ad", 40, seed) for seed, name in enumerate("ab"))
    config = StoreConfig(files=files, output=str(tmp_path / "store.zarr"), min_genes=50)
    build_store(config, progress=False)
    (store,) = open_stores([config.output], human, min_genes=50)
    assert isinstance(store, StoreReader)
    memory = join(open_stores(files, human, min_genes=50))
    ours, theirs = hash_store(store, human), hash_store(memory, human)
    assert sorted(ours) == sorted(theirs) and len(set(ours.tolist())) == 80
    place = {value: row for row, value in enumerate(theirs.tolist())}
    rows = [place[value] for value in ours.tolist()]
    np.testing.assert_array_equal(store.read(0, 80).toarray(), memory.read(0, 80).toarray()[rows])

    least = int(np.median(store.lengths)) + 1
    (some,) = open_stores([config.output], human, min_genes=least)
    kept = np.flatnonzero(store.lengths >= least)
    assert 0 < len(kept) < 80 and len(some.panel) == len(kept)
    np.testing.assert_array_equal(some.read(0, len(kept)).toarray(), store.read(0, 80).toarray()[kept])
    np.testing.assert_array_equal(some.read(3, 7).toarray(), store.read(0, 80).toarray()[kept[3:7]])
    assert some.read(5, 5).shape == (0, len(human))
    np.testing.assert_array_equal(hash_store(some, human), ours[kept])
    with pytest.raises(ConfigError, match="is a built store and knows its batches"):
        open_stores([config.output], human, min_genes=50, joined_by={config.output: "batch"})
