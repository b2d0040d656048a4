"""A cell store read in blocks, and stores that must be refused in one sentence and never end the process."""

import json
import multiprocessing
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import anndata
import numpy as np
import pytest
import zarr
from scipy.sparse import csr_matrix

from xtrimogene.config import StoreConfig
from xtrimogene.data import store_reader
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.store_builder import build_store
from xtrimogene.data.store_matrix import CHUNK_CELLS
from xtrimogene.data.store_reader import StoreReader
from xtrimogene.errors import FileFormatError, GeneMatchError, UnsafeFileError

HUMAN = GeneVocabulary.human()
Spoil = Callable[[Path], None]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_cells: Callable[..., str]) -> Path:
    folder = tmp_path_factory.mktemp("store")
    files = tuple(write_cells(folder / f"{name}.h5ad", 110, seed) for seed, name in enumerate("ab"))
    return build_store(StoreConfig(files=files, output=str(folder / "store.zarr"), memory=8e-4), progress=False)


@pytest.fixture(params=["python", "rust"])
def codecs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Decode with zarr itself, and with zarrs where it is installed."""
    if request.param == "rust" and find_spec("zarrs") is None:
        pytest.skip("needs zarrs")
    if request.param == "python":
        monkeypatch.setattr(store_reader, "find_spec", lambda name: None)
    return str(request.param)


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    return copytree(built, tmp_path / "store.zarr")


def test_blocks_are_the_cells_in_order(built: Path, codecs: str) -> None:
    store = StoreReader(built, HUMAN)
    assert store.num_cells == 220 and store.num_datasets > 1
    pipeline = type(store._readers[0].data._async_array.codec_pipeline).__name__
    assert (pipeline == "ZarrsCodecPipeline") == (codecs == "rust")
    whole = store.read(0, 220)
    for start, stop in [(0, 0), (0, 1), (219, 220), (220, 220), (3, 150), (40, 41), (0, 219)]:
        block = store.read(start, stop)
        assert isinstance(block, csr_matrix) and block.dtype == np.float32 and block.shape == (stop - start, len(HUMAN))
        assert block.has_canonical_format and (block != whole[start:stop]).nnz == 0
        np.testing.assert_array_equal(np.diff(block.indptr), store.lengths[start:stop])
    assert (store.lengths.dtype, store.panel.dtype, store.measured.dtype) == (np.int64, np.int64, bool)


def test_anndata_reads_every_dataset(built: Path) -> None:
    store, first = StoreReader(built), 0
    root = zarr.open_group(built, mode="r")
    assert root.attrs["encoding-type"] == "annbatch-preshuffled"
    for number in range(store.num_datasets):
        cells = anndata.read_zarr(built / f"dataset_{number}")
        assert tuple(cells.var_names) == HUMAN.symbols and tuple(cells.var["ensembl_id"]) == HUMAN.ensembl_ids
        assert (store.read(first, first + cells.n_obs) != cells.X).nnz == 0
        assert cells.obs_names.is_unique and cells.obs["dataset"].dtype == "category"
        np.testing.assert_array_equal(cells.obs["cell_hash"], store.column("cell_hash")[first : first + cells.n_obs])
        first += cells.n_obs
    assert first == store.num_cells


def test_other_genes_are_told(built: Path) -> None:
    swapped = (HUMAN.symbols[1], HUMAN.symbols[0], *HUMAN.symbols[2:])
    with pytest.raises(GeneMatchError, match="gene 0 is 'TSPAN6 ENSG00000000003' there and 'TNMD"):
        StoreReader(built, replace(HUMAN, symbols=swapped))
    with pytest.raises(GeneMatchError, match="20,092 genes there and 10 here"):
        StoreReader(built, GeneVocabulary(HUMAN.symbols[:10], HUMAN.ensembl_ids[:10]))


def _sum(store: StoreReader, answer: Any) -> None:
    answer.send(float(store.read(0, 220).sum()))


@pytest.mark.filterwarnings(
    "ignore:This process.*is multi-threaded, use of fork:DeprecationWarning"
)  # that is the test
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_reads_what_its_parent_reads(built: Path, codecs: str, method: str) -> None:
    """The parent has read several chunks at once before: from then on zarrs hangs in the child of a fork."""
    store = StoreReader(built)
    assert min(reader.num_cells for reader in store._readers) > CHUNK_CELLS
    wanted = float(store.read(0, 220).sum())
    here, there = multiprocessing.Pipe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "ignore")
        worker = multiprocessing.get_context(method).Process(target=_sum, args=(store, there), daemon=True)
        worker.start()
    assert here.poll(60), "the worker hangs"
    assert here.recv() == wanted
    worker.join()


def test_a_reader_travels_as_its_path(built: Path) -> None:
    sent = pickle.dumps(StoreReader(built))
    assert len(sent) < 1_000
    assert pickle.loads(sent).num_cells == 220


def put(array: str, place: Any, value: Any) -> Spoil:
    def spoil(path: Path) -> None:
        zarr.open_group(path, mode="a")[array][place] = value

    return spoil


def change(metadata: str, *keys: str, value: Any) -> Spoil:
    def spoil(path: Path) -> None:
        file = path / metadata / "zarr.json"
        content = json.loads(file.read_text())
        node = content
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value
        file.write_text(json.dumps(content))

    return spoil


def remove(name: str) -> Spoil:
    return lambda path: rmtree(path / name)


def overwrite(array: str, content: Callable[[bytes], bytes]) -> Spoil:
    def spoil(path: Path) -> None:
        (shard,) = (file for file in (path / array / "c").rglob("*") if file.is_file())
        shard.write_bytes(content(shard.read_bytes()))

    return spoil


def link(path: Path) -> None:
    (path / "dataset_0" / "secret").symlink_to("/etc")


def repeat_a_gene(path: Path) -> None:
    indices = zarr.open_group(path, mode="a")["dataset_0/X/indices"]
    indices[1] = indices[0]


def make_array(path: Path) -> None:
    rmtree(path / "dataset_0" / "X")
    zarr.open_group(path, mode="a")["dataset_0"].create_array("X", shape=(3, 20_092), dtype="uint8")


def make_array_of_dataset(path: Path) -> None:
    rmtree(path / "dataset_0")
    zarr.open_group(path, mode="a").create_array("dataset_0", shape=(3,), dtype="uint8")


def empty(path: Path) -> None:
    for folder in path.glob("dataset_*"):
        rmtree(folder)
    change(".", "attributes", "xtrimogene", "num_cells", value=0)(path)


SPOILED: dict[str, tuple[Spoil, str]] = {
    "falling indptr": (put("dataset_0/X/indptr", 5, 0), "has a bad indptr"),
    "indptr beyond the end": (put("dataset_0/X/indptr", slice(5, None), 10**12), "has a bad indptr"),
    "negative indptr": (put("dataset_0/X/indptr", 5, -7), "has a bad indptr"),
    "index out of range": (put("dataset_0/X/indices", 3, 32_000), "bad index: 32,000 is outside 0 to 20,091"),
    "negative index": (put("dataset_0/X/indices", 3, -1), "bad index: -1 is outside"),
    "a stored zero": (put("dataset_0/X/data", 3, 0), "holds a zero, or a gene twice"),
    "a gene twice": (repeat_a_gene, "holds a zero, or a gene twice"),
    "panel out of range": (put("dataset_0/obs/panel", 0, 9), "has panels outside 0 to 1"),
    "negative panel": (put("dataset_0/obs/panel", 0, -1), "has panels outside 0 to 1"),
    "no category": (put("dataset_0/obs/dataset/codes", 0, 9), "codes without a category"),
    "a dataset is gone": (remove("dataset_1"), "of its 220 cells"),
    "a dataset is an array": (make_array_of_dataset, "dataset_0 is no group"),
    "a dataset is strange": (change("dataset_0", "node_type", value="strange"), "cannot be opened|is no CSR"),
    "a dataset is a folder": (lambda path: (path / "dataset_007").mkdir(), "dataset_007 is no group"),
    "no cells": (empty, "has 0 of its 0 cells"),
    "X is gone": (remove("dataset_0/X"), "X is no CSR matrix"),
    "obs is gone": (remove("dataset_0/obs"), "obs/panel does not hold"),
    "indptr is gone": (remove("dataset_0/X/indptr"), "X is no CSR matrix"),
    "no genes": (remove("var"), "is no list of genes"),
    "no panels": (remove("measured"), "is no table of panels"),
    "a gene twice in var": (put("var/_index", 0, HUMAN.symbols[1]), "stands twice among the genes"),
    "dense": (make_array, "is no CSR matrix"),
    "shorter indptr": (change("dataset_0/X/indptr", "shape", value=[9]), "has a bad indptr|cannot be"),
    "more cells than it has": (change(".", "attributes", "xtrimogene", "num_cells", value=10**9), "220 of its 1,000,0"),
    "no record": (change(".", "attributes", value={}), "is a zarr store but no cell store"),
    "other format": (
        change(".", "attributes", "xtrimogene", "format", value=2),
        "of format '2' and this version reads 1",
    ),
    "strange record": (
        change(".", "attributes", "xtrimogene", "sources", value=[3]),
        "record that is not a cell store's",
    ),
    "unknown codec": (change("dataset_0/X/data", "codecs", value=[{"name": "pickle"}]), "uses the codec 'pickle'"),
    "huge array": (change("dataset_0/X/data", "shape", value=[10**13]), "more than compression can give"),
    "huge chunk": (
        change("dataset_0/X/data", "chunk_grid", "configuration", "chunk_shape", value=[10**13]),
        "X/data cannot be opened",
    ),
    "half a shard": (overwrite("dataset_0/X/data", lambda content: content[: len(content) // 2]), "cannot be decoded"),
    "an empty shard": (overwrite("dataset_0/X/data", lambda content: b""), "cannot be decoded|holds a zero"),
    "noise": (overwrite("dataset_0/X/indices", lambda content: os.urandom(len(content))), "cannot be decoded"),
    "noise but the index": (
        overwrite("dataset_0/X/indices", lambda content: b"\xff" * (len(content) - 200) + content[-200:]),
        "cannot be decoded|bad index",
    ),
    "not metadata": (lambda path: (path / "dataset_0/X/zarr.json").write_text("{"), "no readable zarr metadata"),
    "a link": (link, "symbolic link"),
    "no folder": (rmtree, "is no cell store; give the folder"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_damaged_store_is_refused(copied: Path, codecs: str, kind: str) -> None:
    spoil, said = SPOILED[kind]
    spoil(copied)
    with pytest.raises(FileFormatError, match=said) as caught:
        store = StoreReader(copied, HUMAN)
        store.column("dataset")
        store.read(0, store.num_cells)
    assert "\n" not in str(caught.value)


def test_unsafe_is_said_to_be_unsafe(copied: Path) -> None:
    link(copied)
    with pytest.raises(UnsafeFileError):
        StoreReader(copied)
