import json
import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from anndata import AnnData, read_h5ad
from scipy.sparse import csr_matrix

from xtrimogene.atlas import EmbedWork, index_vectors, run
from xtrimogene.checkpoint import PretrainedModel, save
from xtrimogene.errors import CheckpointError, ConfigError, FileFormatError
from xtrimogene.tl import build_index, search

MakeCells = Callable[..., AnnData]
pytest.importorskip("usearch")


@pytest.fixture
def shards(make_cells: MakeCells, tmp_path: Path) -> list[Path]:
    """Return three files of cells with a donor, the second with a cell without counts."""
    paths = []
    for number in range(3):
        cells = make_cells(30 + number, seed=number)
        cells.obs["donor"] = [f"d{number}{row % 2}" for row in range(cells.n_obs)]
        if number == 1:
            counts = csr_matrix(cells.X)
            counts.data[counts.indptr[4] : counts.indptr[5]] = 0
            cells.X = counts
        paths.append(tmp_path / f"shard{number}.h5ad")
        cells.write_h5ad(paths[-1])
    return paths


@pytest.fixture
def vectors(shards: list[Path], tiny_folder: Path, tmp_path: Path) -> Path:
    run(shards, tmp_path / "vectors", EmbedWork(model=str(tiny_folder), precision="float32"), device="cpu")
    return tmp_path / "vectors"


@pytest.mark.parametrize("expression", [True, False])
@pytest.mark.filterwarnings("ignore:1 of 31 cells")
def test_it_is_the_index_that_is_built_from_the_cells(
    expression: bool, shards: list[Path], vectors: Path, tiny_folder: Path, make_cells: MakeCells, tmp_path: Path
) -> None:
    options = {"columns": ["donor"], "expression": expression, "precision": "float32", "model": str(tiny_folder)}
    made = index_vectors(shards, vectors, tmp_path / "made", **options)
    built = build_index(shards, tmp_path / "built", device="cpu", **options)
    query = make_cells(6, seed=9)
    found, wanted = (search(query, index, k=5, model=tiny_folder, device="cpu") for index in (made, built))
    assert len(made.cells) == len(built.cells) == 92
    np.testing.assert_allclose(found.pop("score"), wanted.pop("score"), atol=1e-5)
    pd.testing.assert_frame_equal(found, wanted)


def test_what_is_there_is_not_made_again(shards: list[Path], vectors: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "index", {"model": str(tiny_folder), "expression": False}
    index_vectors(shards[:1], vectors, out, **options)
    before = (out / "index.json").stat().st_mtime_ns
    index_vectors(shards[:1], vectors, out, **options)
    assert (out / "index.json").stat().st_mtime_ns == before
    with pytest.raises(CheckpointError):
        index_vectors(shards[:1], vectors, out, **options, precision="int8")
    with pytest.raises(CheckpointError):
        index_vectors(shards[::2], vectors, out, **options)


def test_an_index_of_columns_that_were_corrected_since_is_not_taken(
    shards: list[Path], vectors: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    options = {"model": str(tiny_folder), "expression": False, "columns": ["donor"]}
    index_vectors(shards[:1], vectors, tmp_path / "index", **options)
    before = pq.read_table(vectors / "shard0.parquet")
    cells = read_h5ad(shards[0])
    cells.obs["donor"] = "corrected"
    cells.write_h5ad(shards[0])
    run(shards[:1], vectors, EmbedWork(model=str(tiny_folder), precision="float32"), device="cpu")
    assert pq.read_table(vectors / "shard0.parquet") == before
    with pytest.raises(CheckpointError, match="exists already"):
        index_vectors(shards[:1], vectors, tmp_path / "index", **options)


def test_vectors_of_other_cells_models_or_works_are_refused(
    shards: list[Path], vectors: Path, tiny_folder: Path, tiny_model: PretrainedModel, tmp_path: Path
) -> None:
    out, options = tmp_path / "index", {"model": str(tiny_folder), "expression": False}
    shards[0].rename(tmp_path / "new.h5ad")
    with pytest.raises(ConfigError, match="new.h5ad is not embedded in"):
        index_vectors([tmp_path / "new.h5ad"], vectors, out, **options)
    (tmp_path / "new.h5ad").rename(shards[0])
    os.utime(shards[0], (1, 1))
    index_vectors(shards[:1], vectors, tmp_path / "same", **options)  # written again as it was
    shards[0].write_bytes(shards[1].read_bytes())
    with pytest.raises(ConfigError, match="changed since"):
        index_vectors(shards[:1], vectors, out, **options)
    with pytest.raises(ConfigError, match="no folder of a run"):
        index_vectors(shards[1:], tmp_path, out, **options)
    begun = json.loads((vectors / "run.json").read_text())
    for name in EmbedWork.__slots__:
        (vectors / "run.json").write_text(json.dumps({other: begun[other] for other in begun if other != name}))
        with pytest.raises(FileFormatError, match=f"run.json is damaged: it has no '{name}'"):
            index_vectors(shards[1:], vectors, out, **options)
    (vectors / "run.json").write_text('{"work": "annotate"}')
    with pytest.raises(ConfigError, match="holds no vectors"):
        index_vectors(shards[1:], vectors, out, **options)
    assert not out.exists()


def test_vectors_of_another_model_are_refused(
    shards: list[Path], vectors: Path, tiny_model: PretrainedModel, tmp_path: Path
) -> None:
    network = deepcopy(tiny_model.network)
    next(network.parameters()).data += 1
    save(PretrainedModel(network, tiny_model.genes, {"name": "other"}), tmp_path / "other")
    with pytest.raises(CheckpointError, match="of another model than other"):
        index_vectors(shards, vectors, tmp_path / "index", model=str(tmp_path / "other"))
