"""A cell store is its files' cells, each once, in a random order that a stopped build does not change."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import anndata
import h5py
import numpy as np
import pytest
from scipy.sparse import csr_matrix, vstack

from xtrimogene.config import StoreConfig, to_dict
from xtrimogene.data import store_builder
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.cell_hashes import gene_keys, hash_cells
from xtrimogene.data.gene_panels import panels_of_batches
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.data.store_builder import build_store
from xtrimogene.data.store_reader import StoreReader
from xtrimogene.errors import ConfigError, CountsError, FieldError, FileFormatError

GENES = GeneVocabulary.human()
SMALL = 2e-4  # GB: a run or a dataset holds few cells

WriteCells = Callable[..., str]


@pytest.fixture
def config(write_cells: WriteCells, tmp_path: Path) -> StoreConfig:
    files = tuple(write_cells(tmp_path / f"{name}.h5ad", size, seed) for seed, (name, size) in enumerate(SIZES.items()))
    return StoreConfig(files=files, output=str(tmp_path / "store.zarr"), memory=SMALL)


SIZES = {"a": 60, "b": 25, "c": 110}


def build(config: StoreConfig) -> StoreReader:
    return StoreReader(build_store(config, progress=False), GENES)


def read_all(files: tuple[str, ...]) -> list[csr_matrix]:
    matrices = []
    for file in files:
        with open_cells(file) as cells:
            matrices.append(MatchedCounts.find(cells, GENES).all())
    return matrices


def origins(store: StoreReader) -> list[tuple[str, int]]:
    return list(zip(store.column("dataset").tolist(), store.column("row").tolist(), strict=True))


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_cell_is_there_once_with_its_counts(config: StoreConfig) -> None:
    store = build(config)
    assert store.num_datasets > 3
    where = origins(store)
    assert sorted(where) == sorted((f"{name}.h5ad", row) for name, size in SIZES.items() for row in range(size))
    matrices = dict(zip(SIZES, read_all(config.files), strict=True))
    wanted = vstack([matrices[file.removesuffix(".h5ad")][row] for file, row in where], format="csr")
    found = store.read(0, store.num_cells)
    assert found.dtype == np.float32 and found.has_canonical_format and (found != wanted).nnz == 0
    np.testing.assert_array_equal(store.lengths, wanted.getnnz(axis=1))
    np.testing.assert_array_equal(store.column("num_genes"), wanted.getnnz(axis=1))
    np.testing.assert_array_equal(store.column("total_counts"), wanted.sum(axis=1).A1)
    np.testing.assert_array_equal(store.column("cell_hash"), hash_cells(wanted, gene_keys(GENES)))
    for file, name in enumerate(SIZES):
        with open_cells(config.files[file]) as cells:
            measured = MatchedCounts.find(cells, GENES).match.measured
        own = store.column("dataset") == f"{name}.h5ad"
        assert (store.measured[store.panel[own]] == measured).all()


def test_neighbours_come_from_different_files_and_rows(config: StoreConfig) -> None:
    where = origins(build(config))
    names = [file for file, _ in where]
    shares = np.array(list(SIZES.values())) / sum(SIZES.values())
    together = np.mean([a == b for a, b in zip(names[:-1], names[1:], strict=True)])
    assert abs(together - (shares**2).sum()) < 0.15  # as of a fair shuffle; in the files' order it is near 1
    rows = [row for file, row in where if file == "c.h5ad"]
    assert abs(np.corrcoef(rows, np.arange(len(rows)))[0, 1]) < 0.3


def test_the_order_is_the_seeds_whatever_the_memory(config: StoreConfig, tmp_path: Path) -> None:
    first = build(config)
    large = build(replace(config, output=str(tmp_path / "large.zarr"), memory=1.0))
    other = build(replace(config, output=str(tmp_path / "other.zarr"), seed=1))
    assert large.num_datasets == 1
    assert origins(large) == origins(first) != origins(other)
    assert (large.read(0, large.num_cells) != first.read(0, first.num_cells)).nnz == 0


def test_the_record_says_what_was_read(config: StoreConfig) -> None:
    store = build(replace(config, donor_key="donor"))
    source = store.sources[1]
    assert (source["file"], source["cells"], source["cells_left_out"], source["donors"]) == ("b.h5ad", 25, 0, 3)
    assert source["sha256"] == hashlib.sha256(Path(config.files[1]).read_bytes()).hexdigest()
    rows = store.column("row")
    assert store.column("donor").tolist() == [f"donor {row % 3}" for row in rows]


def test_batches_of_a_join_measured_genes_of_their_own(config: StoreConfig) -> None:
    store = build(replace(config, batch_key="batch"))
    assert len(store.measured) == 6 and store.sources[2]["batches"] == 2
    for file, name in enumerate(SIZES):
        with open_cells(config.files[file]) as cells:
            matched = MatchedCounts.find(cells, GENES)
            batches = cells.obs_column("batch")
            measured, panel = panels_of_batches(matched.blocks(), matched.match.measured, batches)
        own = store.column("dataset") == f"{name}.h5ad"
        np.testing.assert_array_equal(store.measured[store.panel[own]], measured[panel[store.column("row")[own]]])
        assert store.column("batch")[own].tolist() == batches[store.column("row")[own]].tolist()


def test_cells_with_few_genes_are_left_out(
    write_cells: WriteCells, make_counts: Callable[..., csr_matrix], config: StoreConfig
) -> None:
    counts = make_counts(60, 6_000, 0.06).tolil()
    counts[[3, 8], 150:] = 0
    write_cells(Path(config.files[0]), 60, counts=csr_matrix(counts))
    store = build(config)
    assert (store.sources[0]["cells"], store.sources[0]["cells_left_out"]) == (58, 2)
    assert {3, 8}.isdisjoint(row for file, row in origins(store) if file == "a.h5ad")
    assert store.lengths.min() >= 200
    with pytest.raises(CountsError, match="No cell has 5000 expressed genes"):
        build(replace(config, output=config.output.replace("store", "none"), min_genes=5000))
    assert left_in(Path(config.output).parent) == {"a.h5ad", "b.h5ad", "c.h5ad", "store.zarr"}


@pytest.mark.parametrize(("largest", "kind"), [(200, "uint8"), (300, "uint16"), (70_000, "uint32")])
def test_counts_are_kept_as_small_as_they_can_be(
    write_cells: WriteCells, make_counts: Callable[..., csr_matrix], tmp_path: Path, largest: int, kind: str
) -> None:
    import zarr

    counts = make_counts(40, 6_000, 0.06)
    counts.data[17] = largest
    file = write_cells(tmp_path / "cells.h5ad", 40, counts=counts)
    store = build(StoreConfig(files=(file,), output=str(tmp_path / "store.zarr")))
    assert store.read(0, 40).max() == largest
    matrix = zarr.open_group(store.path, mode="r")["dataset_0/X"]
    assert (str(matrix["data"].dtype), str(matrix["indices"].dtype)) == (kind, "int16")


def test_a_build_killed_again_and_again_ends_with_the_same_bytes(config: StoreConfig, tmp_path: Path) -> None:
    """A rename makes work safe: kill before the first one, then after each; so each state is taken up once."""
    config = replace(config, memory=3e-4)
    whole = digest(build_store(replace(config, output=str(tmp_path / "whole.zarr")), progress=False))
    for attempt in range(50):
        command = [sys.executable, "-c", KILLED, json.dumps(to_dict(config)), str(min(attempt, 1))]
        done = subprocess.run(command, check=False)
        if Path(config.output).exists():
            break
        assert done.returncode == -signal.SIGKILL
    assert attempt > 5
    assert digest(Path(config.output)) == whole


def test_a_build_stopped_while_it_tidies_up_is_whole(config: StoreConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove_half(folder: Path, **options: object) -> None:
        if folder.name == "runs":
            rmtree(folder / "run_000000")
            raise KeyboardInterrupt
        rmtree(folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr(store_builder, "rmtree", remove_half)
        with pytest.raises(KeyboardInterrupt):
            build_store(config, progress=False)
    assert not Path(config.output).exists()
    store = build(config)
    assert [source["cells"] for source in store.sources] == list(SIZES.values())
    assert left_in(Path(config.output).parent) == {"a.h5ad", "b.h5ad", "c.h5ad", "store.zarr"}


KILLED = """
import json, os, signal, sys
from pathlib import Path
from xtrimogene.config import StoreConfig, from_dict
from xtrimogene.data.store_builder import build_store

rename, after = Path.rename, sys.argv[2] == "1"

def killed(self, target):
    if after:
        rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)

Path.rename = killed
build_store(from_dict(StoreConfig, json.loads(sys.argv[1])), progress=False)
"""


def test_a_warning_names_its_file(config: StoreConfig) -> None:
    cells = anndata.read_h5ad(config.files[1])[:, :4_000].copy()
    cells.X = cells.X.toarray()  # dense, too
    cells.write_h5ad(config.files[1])
    with pytest.warns(UserWarning, match="^b.h5ad: X has 4,000 genes and the model knows 20,092"):
        assert build(config).num_cells == sum(SIZES.values())


@pytest.mark.shared
def test_real_cells_are_recognized_in_another_order(shared: Path, tmp_path: Path) -> None:
    names = ("pbmc3k.h5ad", "baron_h1.h5ad", "pbmc_10x_v3_400.h5ad")
    files = tuple(str(shared / "data" / name) for name in names)
    store = build(StoreConfig(files=files, output=str(tmp_path / "store.zarr"), memory=0.05))
    assert store.num_datasets > 2
    cells = anndata.read_h5ad(files[0])
    cells = cells[::-7, np.random.default_rng(0).permutation(cells.n_vars)].copy()
    with open_cells(cells) as opened:
        found = hash_cells(MatchedCounts.find(opened, GENES).all(), gene_keys(GENES))
    stored = store.column("cell_hash")
    assert len(np.unique(stored)) == store.num_cells  # no two cells are the same
    assert np.isin(found, stored[store.column("dataset") == "pbmc3k.h5ad"]).all()
    wanted = read_all(files)
    assert store.read(0, store.num_cells).sum() == sum(matrix.sum() for matrix in wanted)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"donor_key": "patient"}, FieldError, "has no obs column 'patient'; it has donor, batch"),
        ({"files": ("missing.h5ad",)}, FileFormatError, "missing.h5ad does not exist"),
        ({"output": "no/such/store.zarr"}, ConfigError, "does not exist; make it"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    config: StoreConfig, change: dict[str, object], error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(config.output).parent
    monkeypatch.chdir(folder)
    before = left_in(folder)
    with pytest.raises(error, match=said):
        build_store(replace(config, **change), progress=False)
    assert left_in(folder) == before


def test_a_bad_count_deep_in_a_file_leaves_nothing(config: StoreConfig) -> None:
    path = Path(config.files[1])
    with h5py.File(path, "r+") as file:
        file["X/data"][-1] = 2.5
    before = left_in(path.parent)
    with pytest.raises(CountsError, match="2.5"):
        build_store(config, progress=False)
    assert left_in(path.parent) == before


def test_what_is_in_the_way_is_kept(config: StoreConfig) -> None:
    output = Path(config.output)
    build_store(config, progress=False)
    whole = digest(output)
    with pytest.raises(ConfigError, match="exists already; name another store"):
        build_store(config, progress=False)
    assert digest(output) == whole


def test_the_beginning_of_another_store_is_told(config: StoreConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_builder, "write_root", stop)
        with pytest.raises(KeyboardInterrupt):
            build_store(config, progress=False)
    partial = Path(f"{config.output}.partial")
    for folder in (partial, partial / "store"):
        with pytest.raises(FileFormatError, match="no cell store"):
            StoreReader(folder)
    before = digest(partial)
    with pytest.raises(ConfigError, match="begun with other files or options; remove that folder"):
        build_store(replace(config, seed=1), progress=False)
    os.utime(config.files[0])
    with pytest.raises(ConfigError, match="a.h5ad has changed since; remove that folder"):
        build_store(config, progress=False)
    assert digest(partial) == before


def test_a_full_disk_keeps_what_is_done(config: StoreConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_builder, "write_dataset", fail)
        with pytest.raises(ConfigError, match="No space left on device.; put that right and give the same command"):
            build_store(config, progress=False)
    assert not Path(config.output).exists()
    assert build(config).num_cells == sum(SIZES.values())
