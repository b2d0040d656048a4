"""The demo: its cells, its table, its sentences and its files."""

import hashlib
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData, read_h5ad

from xtrimogene import demo
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import DecoderConfig, EncoderConfig, ModelConfig
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.comparison import TaskResult
from xtrimogene.model.xtrimogene import XTrimoGene

ROOT = Path(__file__).resolve().parents[1]
ASSET = ROOT / "xtrimogene" / "assets" / "sample_cells.h5ad"


@pytest.fixture(scope="module")
def model() -> PretrainedModel:
    """A model of the sample's genes with random weights."""
    human, measured = GeneVocabulary.human(), set(demo.sample_cells().var_names)
    pairs = [pair for pair in zip(human.symbols, human.ensembl_ids, strict=True) if pair[0] in measured]
    genes = GeneVocabulary(*map(tuple, zip(*pairs, strict=True)))
    config = ModelConfig(
        num_genes=len(genes),
        encoder=EncoderConfig(dim=16, num_layers=1, num_heads=2),
        decoder=DecoderConfig(dim=8, num_layers=1, num_heads=1, num_features=16),
        num_bins=10,
    )
    return PretrainedModel(XTrimoGene(config).eval().requires_grad_(False), genes, name="stand-in")


@pytest.fixture(scope="module")
def finished(model: PretrainedModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], TaskResult]:
    """One demo on every fifth cell, laid out without UMAP."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    said: list[str] = []

    def some_cells() -> AnnData:
        return sample[::5].copy()

    sample = demo.sample_cells()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "sample_cells", some_cells)
        patch.setattr(demo, "umap_coordinates", lambda vectors: vectors[:, :2])
        result = demo.run(folder, model=model, say=said.append)
    return folder, said, result


def test_the_cells_are_those_of_the_readme() -> None:
    cells = demo.sample_cells()
    assert cells.shape == (1336, 11180) and cells.obs["cell_type"].nunique() == 11
    assert set(demo.HELD_OUT_LANES) < set(cells.obs["lane"]) and cells.obs["lane"].nunique() == 13
    assert ASSET.stat().st_size < 3_000_000
    assert hashlib.sha256(ASSET.read_bytes()).hexdigest() in (ROOT / "data" / "README.md").read_text()


@pytest.mark.shared
def test_the_cells_are_built_from_their_source(shared: Path, tmp_path: Path) -> None:
    build = runpy.run_path(str(ROOT / "data" / "build_sample_cells.py"))["build"]
    build(shared / "data" / "hao_pbmc_1336.h5ad", tmp_path / "rebuilt.h5ad")
    assert (tmp_path / "rebuilt.h5ad").read_bytes() == ASSET.read_bytes()


def test_every_label_of_the_test_can_be_learned() -> None:
    cells = demo.sample_cells()
    held_out = cells.obs["lane"].isin(demo.HELD_OUT_LANES)
    assert set(cells.obs["cell_type"][held_out]) <= set(cells.obs["cell_type"][~held_out])


@pytest.mark.slow
def test_it_writes_a_picture_the_cells_and_the_scores(finished: tuple[Path, list[str], TaskResult]) -> None:
    folder, _, result = finished
    assert {path.name for path in folder.iterdir()} == {"cells.png", "cells.h5ad", "scores.json"}
    assert (folder / "cells.png").read_bytes().startswith(b"\x89PNG")
    cells = read_h5ad(folder / "cells.h5ad")
    held_out = cells.obs["lane"].isin(demo.HELD_OUT_LANES).to_numpy()
    assert (cells.obs["xtrimogene_label"].notna().to_numpy() == held_out).all()
    assert cells.obsm["X_xtrimogene"].shape == (268, 64) and cells.X.sum() > 0
    (task,) = json.loads((folder / "scores.json").read_text())["tasks"]
    assert task["num_tested"] == held_out.sum() == result.num_tested


@pytest.mark.slow
def test_the_table_names_every_baseline(finished: tuple[Path, list[str], TaskResult]) -> None:
    _, said, result = finished
    table = demo.score_table(result)
    assert table in said and max(map(len, table.splitlines())) <= 80
    for name in (demo.OURS, demo.RANDOM, "HVG + PCA", "all genes", "most frequent label"):
        assert any(line.startswith(name) for line in table.splitlines())
    ours = next(score for score in result.scores if score.method.features == demo.OURS)
    assert f"{ours.macro_f1.mean:.3f} [" in table.splitlines()[1]


@pytest.mark.slow
def test_it_says_plainly_where_a_baseline_wins(finished: tuple[Path, list[str], TaskResult]) -> None:
    _, said, result = finished
    sentences = list(demo.verdicts(result))
    assert all(sentence in said for sentence in sentences) and len(sentences) == 2
    lost = {str(d.baseline.features) for d in result.differences if d.verdict == "loses"}
    assert lost  # random weights lose to PCA
    text = " ".join(" ".join(sentences).split())
    assert "loses to" in text and all(name in text for name in lost)
    assert max(map(len, "\n".join(said).splitlines())) <= 80


@pytest.mark.slow
def test_the_last_words_say_where_things_are_and_what_to_try(finished: tuple[Path, list[str], TaskResult]) -> None:
    folder, said, _ = finished
    assert str(folder) in said[-1] and "cells.png" in said[-1]
    assert said[-1].splitlines()[-1].strip() == "xtrimogene embed yours.h5ad embedded.h5ad"


def test_the_held_out_labels_are_not_used() -> None:
    cells = demo.sample_cells()[::20].copy()
    held_out = cells.obs["lane"].isin(demo.HELD_OUT_LANES).to_numpy()
    cells.obsm["X_xtrimogene"] = np.random.default_rng(0).normal(size=(cells.n_obs, 4)).astype(np.float32)
    demo.label_held_out(cells, held_out)
    first = cells.obs["xtrimogene_label"].copy()
    cells.obs.loc[held_out, "cell_type"] = "B cells"
    demo.label_held_out(cells, held_out)
    assert (first[held_out] == cells.obs["xtrimogene_label"][held_out]).all()


def test_a_folder_that_cannot_be_made(model: PretrainedModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        demo.run(tmp_path / "file" / "out", model=model, say=lambda text: None)
