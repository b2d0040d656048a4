from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from anndata import AnnData, read_h5ad

from xtrimogene.atlas import AnnotateWork, EmbedWork, run
from xtrimogene.checkpoint import PretrainedModel, save
from xtrimogene.errors import CheckpointError, ConfigError
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.tl import annotate

MakeCells = Callable[..., AnnData]


@pytest.fixture
def source(make_cells: MakeCells, tmp_path: Path) -> Path:
    make_cells(20).write_h5ad(tmp_path / "shard.h5ad")
    return tmp_path / "shard.h5ad"


def test_an_embedding_that_cannot_be_does_not_begin_a_folder(
    source: Path, tiny_model: PretrainedModel, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="read_depth='deep'"):
        EmbedWork(read_depth="deep")
    network = XTrimoGene(replace(tiny_model.config, latent_dim=None, pool="mean"))
    model = save(PretrainedModel(network, tiny_model.genes), tmp_path / "other")
    with pytest.raises(ConfigError, match="needs a model with a latent cell vector"):
        run([source], tmp_path / "out", EmbedWork(model=str(model), pool="latent"), device="cpu")
    assert not (tmp_path / "out").exists()


def test_an_annotation_that_cannot_be_does_not_begin_a_folder(
    source: Path, annotator: Path, tiny_model: PretrainedModel, tmp_path: Path
) -> None:
    for name in ("error_rate", "novelty_rate"):
        with pytest.raises(ConfigError, match=f"{name}=10.0 must lie between 0 and 1"):
            AnnotateWork(annotator=str(annotator), **{name: 10.0})
    network = deepcopy(tiny_model.network)
    next(network.parameters()).data += 1
    other = save(PretrainedModel(network, tiny_model.genes, {"name": "other"}), tmp_path / "other")
    with pytest.raises(CheckpointError, match="was fitted on vectors of 'tiny'.*not of 'other'"):
        run([source], tmp_path / "out", AnnotateWork(annotator=str(annotator), model=str(other)), device="cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:100% of the cells are unknown")
def test_labels_are_those_of_annotate_and_no_other_columns(
    source: Path, annotator: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    cells = read_h5ad(source)
    for name in ("label", "voted", "score", "cell"):  # as an earlier call, and another program, left them
        cells.obs[f"xtrimogene_{name}"] = "earlier"
    cells.write_h5ad(source)
    report = run([source], tmp_path / "out", AnnotateWork(annotator=str(annotator), model=str(tiny_folder)))
    assert (report.done_now, report.num_cells, report.num_unread) == (1, 20, 0)
    table = pq.read_table(tmp_path / "out" / "shard.parquet").to_pydict()
    wanted = annotate(source, annotator=annotator, model=tiny_folder).obs
    assert list(table) == ["cell", "label", "confidence", "possible", "unknown"]
    assert table.pop("cell") == wanted.index.tolist()
    assert table == {name: wanted[f"xtrimogene_{name}"].tolist() for name in table}
