from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from anndata import AnnData

from xtrimogene.atlas import AnnotateWork, EmbedWork, run
from xtrimogene.checkpoint import PretrainedModel, save
from xtrimogene.errors import CheckpointError, ConfigError
from xtrimogene.model.xtrimogene import XTrimoGene

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
