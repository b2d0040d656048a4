"""`tl.map_to_reference`: where cells of both come to lie, what they are called, and what is refused."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad

import xtrimogene as xt
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.demo import sample_cells
from xtrimogene.errors import ConfigError, FieldError, GeneMatchError
from xtrimogene.inference import Inference
from xtrimogene.tasks.annotation import tuning as tune
from xtrimogene.training import FineTuneConfig

MakeCells = Callable[..., AnnData]
KINDS = ["B cells", "Monocytes", "NK cells"]
COLUMNS = [f"xtrimogene_{name}" for name in ("source", "label", "confidence", "possible", "unknown")]


@pytest.fixture(scope="module")
def blood() -> tuple[AnnData, AnnData]:
    """Return blood cells of three kinds, 25 each, and as many others."""
    cells = sample_cells()
    rows = [np.flatnonzero(cells.obs["cell_type"] == kind) for kind in KINDS]
    known, asked = (np.concatenate([row[part] for row in rows]) for part in (slice(25), slice(25, 50)))
    return cells[known].copy(), cells[asked].copy()


@pytest.fixture
def pair(make_cells: MakeCells) -> tuple[AnnData, AnnData]:
    return make_cells(num_cells=8, seed=2), make_cells(num_cells=45, seed=1)


@pytest.fixture
def options(tiny_model: PretrainedModel) -> dict[str, object]:
    return {"label_key": "cell_type", "model": tiny_model, "min_genes": 1, "baselines": False, "umap": False}


def test_real_cells_lie_by_their_kind_and_get_its_label(blood: tuple[AnnData, AnnData], tmp_path: Path) -> None:
    reference, query = blood
    before = reference.copy(), query.copy()
    query.obs["age"] = 40
    mapped = xt.tl.map_to_reference(query, reference, label_key="cell_type", baselines=False, progress=False)
    del query.obs["age"]
    for cells, kept in zip(blood, before, strict=True):
        pd.testing.assert_frame_equal(cells.obs, kept.obs)
        assert not cells.obsm and not cells.uns

    assert list(mapped.obs.columns) == [*reference.obs.columns, "age", *COLUMNS]
    assert list(mapped.obs_names) == [*reference.obs_names, *query.obs_names]
    source, true = mapped.obs["xtrimogene_source"].to_numpy(str), mapped.obs["cell_type"].to_numpy(str)
    assert (source == np.repeat(["reference", "query"], 75)).all()
    known, asked = source == "reference", source == "query"
    label = mapped.obs["xtrimogene_label"].to_numpy(str)
    assert (label[known] == true[known]).all() and (label[asked] == true[asked]).mean() > 0.9
    assert mapped.obs["xtrimogene_confidence"][known].isna().all()
    assert mapped.obs["xtrimogene_confidence"][asked].between(0, 1).all()
    for key in ("X_xtrimogene", "X_umap"):
        places = mapped.obsm[key]
        nearest = np.linalg.norm(places[asked][:, None] - places[known], axis=2).argmin(axis=1)
        assert (true[known][nearest] == true[asked]).mean() > 0.9
    mapped.write_h5ad(tmp_path / "mapped.h5ad")
    back = read_h5ad(tmp_path / "mapped.h5ad")
    pd.testing.assert_frame_equal(back.obs, mapped.obs)
    assert back.uns["xtrimogene_map"]["annotator"]["labels"].tolist() == KINDS


def test_labels_are_those_of_annotate(
    pair: tuple[AnnData, AnnData], options: dict[str, object], tmp_path: Path
) -> None:
    query, reference = pair
    mapped = xt.tl.map_to_reference(query, reference, **options)
    del options["umap"]
    annotated = xt.tl.annotate(query.copy(), reference=reference, **options)
    for name in COLUMNS[1:]:
        wanted, found = annotated.obs[name], mapped.obs[name].iloc[45:]
        assert wanted.astype(str).tolist() == found.astype(str).tolist()
    record = annotated.uns["xtrimogene_annotation"]
    assert mapped.uns["xtrimogene_map"].items() >= {name: record[name] for name in ("held_out", "aligned")}.items()
    paths = [tmp_path / "query.h5ad", tmp_path / "reference.h5ad"]
    for cells, path in zip(pair, paths, strict=True):
        cells.write_h5ad(path)
    from_files = xt.tl.map_to_reference(*paths, **options, umap=False)
    pd.testing.assert_frame_equal(from_files.obs, mapped.obs)
    np.testing.assert_allclose(from_files.obsm["X_xtrimogene"], mapped.obsm["X_xtrimogene"], atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*of the cells are unknown:UserWarning")
def test_cells_of_the_reference_given_again_land_on_themselves(
    pair: tuple[AnnData, AnnData], options: dict[str, object]
) -> None:
    _, reference = pair
    mapped = xt.tl.map_to_reference(reference[::-1].copy(), reference, align=False, **options)
    assert list(mapped.obs_names[[0, 45]]) == ["cell0-reference", "cell44-query"]
    places = mapped.obsm["X_xtrimogene"]
    np.testing.assert_allclose(places[45:][::-1], places[:45], atol=1e-5)


def test_a_cells_place_depends_on_no_other_where_nothing_is_aligned(
    pair: tuple[AnnData, AnnData], options: dict[str, object]
) -> None:
    query, reference = pair
    options |= {"align": False, "umap": True}
    together, alone = (xt.tl.map_to_reference(cells, reference, **options) for cells in (query, query[5:6].copy()))
    for key, most in (("X_xtrimogene", 1e-3), ("X_umap", 1e-2)):
        np.testing.assert_allclose(alone.obsm[key][:45], together.obsm[key][:45], atol=1e-5)
        np.testing.assert_allclose(alone.obsm[key][45], together.obsm[key][50], atol=most)
    assert alone.obs["xtrimogene_label"].iloc[45] == together.obs["xtrimogene_label"].iloc[50]


@pytest.mark.filterwarnings("ignore:.*of the cells are unknown:UserWarning")
def test_alignment_moves_the_query_to_the_reference_and_leaves_that(blood: tuple[AnnData, AnnData]) -> None:
    """As if a protocol caught a fifth of the genes ten times as well."""
    reference, query = blood
    caught = np.where(np.random.default_rng(0).random(query.n_vars) < 0.2, 10, 1)
    query = query.copy()
    query.X = query.X.multiply(caught).tocsr().astype(np.float32)
    options = {"label_key": "cell_type", "baselines": False, "umap": False, "progress": False}
    as_they_are, aligned = (xt.tl.map_to_reference(query, reference, align=align, **options) for align in (False, True))
    assert aligned.uns["xtrimogene_map"]["aligned"] and not as_they_are.uns["xtrimogene_map"]["aligned"]
    before, after = as_they_are.obsm["X_xtrimogene"], aligned.obsm["X_xtrimogene"]
    np.testing.assert_array_equal(before[:75], after[:75])
    moves = after[75:] - before[75:]
    whole = moves.mean(axis=0)
    own = np.linalg.norm(moves - whole, axis=1) / np.linalg.norm(whole)
    assert own.mean() > 0.1 and own.max() < 1, "most of it as a whole, and each part a little by itself"

    def apart(places: np.ndarray) -> float:
        kinds = places.reshape(2, 3, 25, -1).mean(axis=2)
        return float(np.linalg.norm(kinds[1] - kinds[0], axis=1).mean())

    assert apart(after) < 0.4 * apart(before)


def test_cells_without_counts_or_labels(pair: tuple[AnnData, AnnData], options: dict[str, object]) -> None:
    query, reference = pair
    reference.obs["cell_type"] = np.resize(["a", "b", None], 45)
    query.X = query.X.multiply(np.array([[1], [0], *[[1]] * 6])).tocsr()
    with pytest.warns(UserWarning, match="1 of 8 cells have no counts"):
        mapped = xt.tl.map_to_reference(query, reference, key_added="mine", **options | {"umap": True})
    assert mapped.n_obs == 30 + 8 and set(mapped.obs["cell_type"][:30]) == {"a", "b"}
    for key in ("X_mine", "X_umap"):
        assert np.isnan(mapped.obsm[key]).any(axis=1).tolist() == [row == 31 for row in range(38)]
    assert mapped.obs["mine_label"].isna().tolist() == [row == 31 for row in range(38)]


def test_mapping_again_replaces_what_was_written(pair: tuple[AnnData, AnnData], options: dict[str, object]) -> None:
    query, reference = pair
    first = xt.tl.map_to_reference(query, reference, **options)
    reference.obs["xtrimogene_label"], query.obs["xtrimogene_confidence"] = "old", 2.0
    pd.testing.assert_frame_equal(xt.tl.map_to_reference(query, reference, **options).obs, first.obs)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"label_key": "type"}, FieldError, "the reference's obs has no 'type', it has cell_type"),
        ({"group_key": "donor"}, FieldError, "no 'donor'"),
        ({"novelty_rate": 1.0}, ConfigError, "novelty_rate=1.0 must lie between 0 and 1"),
        ({"key_added": "a/b"}, ConfigError, "cannot be written to a file"),
        ({"min_genes": 500}, GeneMatchError, "400"),
    ],
)
def test_refused_before_anything_is_embedded(
    change: dict[str, object],
    error: type[Exception],
    words: str,
    pair: tuple[AnnData, AnnData],
    options: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Inference, "cell_embeddings", lambda *_, **__: pytest.fail("embedded"))
    with pytest.raises(error, match=words):
        xt.tl.map_to_reference(*pair, **options | change)


def test_a_tuned_map_is_of_tuned_vectors(
    pair: tuple[AnnData, AnnData], options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    query, reference = pair
    reference.obs["lane"] = np.resize(["one", "two"], reference.n_obs)
    tuning = FineTuneConfig(peak_lr=1e-2, step_tokens=400, steps_per_epoch=6, max_epochs=1, averaging=0.0)
    better = iter([1.0, 0.5])
    monkeypatch.setattr(tune, "tune", partial(tune.tune, judge=lambda scores, label: next(better)))
    plain = xt.tl.map_to_reference(query, reference, **options)
    tuned = xt.tl.map_to_reference(query, reference, method="finetune", batch_key="lane", tuning=tuning, **options)
    told = tuned.uns["xtrimogene_map"]["annotator"]["tuning"]
    assert told["batch_key"] == "lane" and told["epochs"] == 1
    rows = np.abs(tuned.obsm["X_xtrimogene"] - plain.obsm["X_xtrimogene"]).max(axis=1)
    assert (rows > 1e-3).all(), "the reference's cells and the query's"
