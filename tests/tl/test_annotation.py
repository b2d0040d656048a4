"""`tl.annotate`: what it writes of real cells, that the reference stays as it is, and what it refuses."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad

import xtrimogene as xt
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.demo import sample_cells
from xtrimogene.errors import CheckpointError, ConfigError, FieldError, GeneMatchError
from xtrimogene.inference import Inference
from xtrimogene.model.tail import with_weights
from xtrimogene.tasks.annotation import tuning
from xtrimogene.tasks.annotation.annotator_folder import load_annotator
from xtrimogene.tasks.annotation.tuned import Tuned
from xtrimogene.tl.answering import answer
from xtrimogene.tl.label_options import read_markers
from xtrimogene.training import FineTuneConfig

MakeCells = Callable[..., AnnData]
COLUMNS = ["xtrimogene_label", "xtrimogene_confidence", "xtrimogene_possible", "xtrimogene_unknown"]
KINDS = ["B cells", "Monocytes", "NK cells"]
RATES = {"error_rate": 0.1, "novelty_rate": 0.05}


@pytest.fixture(scope="module")
def blood() -> tuple[AnnData, AnnData]:
    """Return blood cells of three kinds, 20 each, to learn from, and as many again with platelets to ask for."""
    cells = sample_cells()
    kind = cells.obs["cell_type"].astype(str)
    known, asked = [], []
    for name in KINDS:
        rows = np.flatnonzero(kind == name)
        known, asked = [*known, *rows[:20]], [*asked, *rows[20:40]]
    platelets = np.flatnonzero(kind == "Platelet")[:20]
    return cells[known].copy(), cells[[*asked, *platelets]].copy()


def test_real_cells_get_their_labels_and_strange_ones_none(blood: tuple[AnnData, AnnData], tmp_path: Path) -> None:
    reference, query = (cells.copy() for cells in blood)
    before = reference.copy()
    with pytest.warns(UserWarning, match=r"\d\d% of the cells are unknown, where 5% were to be expected"):
        assert xt.tl.annotate(query, reference=reference, label_key="cell_type", progress=False) is query
    assert list(query.obs.columns[-4:]) == COLUMNS
    found, true = query.obs["xtrimogene_label"].astype(str), query.obs["cell_type"].astype(str)
    assert (found == true)[:60].mean() > 0.8
    assert (found == "unknown").to_numpy()[60:].mean() > 0.8
    assert ((found == "unknown") == query.obs["xtrimogene_unknown"]).all()
    covered = [
        label in possible.split(" | ") for label, possible in zip(true, query.obs["xtrimogene_possible"], strict=True)
    ]
    assert np.mean(covered[:60]) > 0.8
    assert query.obs["xtrimogene_confidence"].between(0, 1).all()
    pd.testing.assert_frame_equal(reference.obs, before.obs)
    assert not reference.obsm and not reference.uns and (reference.X != before.X).nnz == 0

    record = query.uns["xtrimogene_annotation"]
    learned = record["annotator"]
    assert record["method"] == "ensemble" and learned["labels"] == KINDS and learned["cells"] == [20, 20, 20]
    assert learned["held_out_by"] == "cell" and record["held_out"]["macro_f1"] > 0.8
    beside = record["held_out"]
    assert set(beside["baselines"]) > {"all genes, linear"} and "beats" in beside["verdict"]
    assert record["model"] == "demo" and record["options"]["pool"] == learned["model"]["options"]["pool"]
    query.write_h5ad(tmp_path / "annotated.h5ad")
    back = read_h5ad(tmp_path / "annotated.h5ad")
    pd.testing.assert_frame_equal(back.obs[COLUMNS], query.obs[COLUMNS])


@pytest.mark.parametrize("method", ["ensemble", "knn"])
def test_files_give_what_data_in_memory_give(
    method: str, tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path
) -> None:
    reference, query = make_cells(num_cells=30, seed=1), make_cells(num_cells=8, seed=2)
    reference.obs["kind"] = np.resize(["a", "b", None], 30)
    options = {"label_key": "kind", "model": tiny_model, "method": method, "min_genes": 1, "key_added": "mine"}
    paths = [tmp_path / "reference.h5ad", tmp_path / "query.h5ad"]
    for cells, path in zip((reference, query), paths, strict=True):
        cells.write_h5ad(path)
    from_files = xt.tl.annotate(paths[1], reference=paths[0], **options)
    in_memory = xt.tl.annotate(query, reference=reference, **options)
    pd.testing.assert_frame_equal(from_files.obs, in_memory.obs, check_categorical=False)
    assert set(from_files.obs) - set(make_cells().obs) == {
        "mine_label",
        "mine_confidence",
        "mine_possible",
        "mine_unknown",
    }
    learned = from_files.uns["mine_annotation"]["annotator"]
    assert learned["labels"] == ["a", "b"] and learned["cells"] == [10, 10], "cells without a label are not used"


def test_names_of_cells_that_a_file_holds_as_numbers_are_no_places(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path
) -> None:
    reference, query = make_cells(num_cells=30, seed=1), make_cells(num_cells=8, seed=2)
    query.obs.reset_index(drop=True, inplace=True)  # AnnData lets it be, in memory as in a file
    query.write_h5ad(tmp_path / "query.h5ad")
    learning = {"reference": reference, "label_key": "cell_type", "model": tiny_model, "min_genes": 1}
    with pytest.warns(UserWarning, match="Transforming to str index"):  # anndata's, which says what becomes of them
        from_file = xt.tl.annotate(tmp_path / "query.h5ad", **learning)
    in_memory = xt.tl.annotate(query, **learning)
    assert from_file.obs_names.tolist() == [f"{place}" for place in range(8)]
    for column in COLUMNS:
        assert from_file.obs[column].tolist() == in_memory.obs[column].tolist(), column


def test_what_another_call_wrote_does_not_stay_beside_new_labels(
    tiny_model: PretrainedModel, typed: AnnData, make_cells: MakeCells
) -> None:
    query, learning = make_cells(num_cells=8, seed=2), {"reference": typed, "model": tiny_model, "min_genes": 1}
    xt.tl.annotate(query, label_key="cell_type", ontology_key="id", vote=True, **learning)
    more = [f"xtrimogene_{name}" for name in ("ontology_id", "ontology_name", "voted")]
    assert set(more) < set(query.obs)
    xt.tl.annotate(query, label_key="cell_type", key_added="other", **learning)
    assert set(more) < set(query.obs)
    xt.tl.annotate(query, label_key="cell_type", **learning)
    assert not set(more) & set(query.obs) and set(COLUMNS) < set(query.obs)


def test_a_cell_that_was_learned_from_is_not_unknown(blood: tuple[AnnData, AnnData]) -> None:
    """In expression it lies farther than others, as the axes were fitted to it."""
    reference = blood[0].copy()
    xt.tl.annotate(reference, reference=blood[0], label_key="cell_type", align=False, baselines=False, progress=False)
    assert not reference.obs["xtrimogene_unknown"].any()
    assert (reference.obs["xtrimogene_label"].astype(str) == reference.obs["cell_type"].astype(str)).all()


def test_cells_without_counts_have_no_answer(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    reference, query = make_cells(num_cells=20, seed=1), make_cells(num_cells=3, seed=2)
    reference.obs["kind"] = np.resize(["a", "b"], 20)
    query.X = query.X.multiply(np.array([[1], [0], [1]])).tocsr()
    with pytest.warns(UserWarning, match="1 of 3 cells have no counts"):
        xt.tl.annotate(query, reference=reference, label_key="kind", model=tiny_model, min_genes=1)
    missing = query.obs[["xtrimogene_label", "xtrimogene_confidence", "xtrimogene_possible"]].isna()
    assert missing.to_numpy().tolist() == [[False] * 3, [True] * 3, [False] * 3]
    assert not query.obs["xtrimogene_unknown"].iloc[1]


def test_cells_that_the_reference_calls_unknown_teach_nothing(
    tiny_model: PretrainedModel, make_cells: MakeCells
) -> None:
    reference, query = make_cells(num_cells=30, seed=1), make_cells(num_cells=3, seed=2)
    reference.obs["kind"] = np.resize(["a", "b", "unknown"], 30)
    with pytest.warns(UserWarning, match=r"10 cells of the reference are not used, since obs\['kind'\] says 'unknown'"):
        xt.tl.annotate(query, reference=reference, label_key="kind", model=tiny_model, min_genes=1)
    assert list(query.obs["xtrimogene_label"].cat.categories) == ["a", "b", "unknown"]
    learned = query.uns["xtrimogene_annotation"]["annotator"]
    assert learned["labels"] == ["a", "b"] and learned["cells"] == [10, 10]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"label_key": "type"}, FieldError, "the reference's obs has no 'type', it has cell_type, kind, score, "),
        ({"label_key": "score"}, FieldError, r"obs\['score'\] holds float64 numbers; names are needed"),
        ({"group_key": "donor"}, FieldError, "no 'donor'"),
        ({"error_rate": 0.0}, ConfigError, "error_rate=0.0 must lie between 0 and 1"),
        ({"key_added": "a/b"}, ConfigError, "cannot be written to a file"),
        ({"label_key": "parted"}, FieldError, r"the label 'a \| b' holds ' \| '"),
        ({"label_key": "alike"}, ConfigError, "the reference has 1 labels"),
        ({"group_key": "alike"}, ConfigError, "the reference has one group"),
    ],
)
def test_refused(
    options: dict[str, object],
    error: type[Exception],
    words: str,
    tiny_model: PretrainedModel,
    make_cells: MakeCells,
) -> None:
    reference, query = make_cells(num_cells=20, seed=1), make_cells(num_cells=3, seed=2)
    reference.obs["kind"], reference.obs["score"] = np.resize(["a", "b"], 20), 0.5
    reference.obs["parted"], reference.obs["alike"] = np.resize(["a | b", "b"], 20), "same"
    before = query.obs.copy()
    with pytest.raises(error, match=words):
        xt.tl.annotate(
            query, reference=reference, **({"label_key": "kind", "model": tiny_model, "min_genes": 1} | options)
        )
    pd.testing.assert_frame_equal(query.obs, before)


def test_nothing_is_embedded_before_all_is_checked(
    tiny_model: PretrainedModel, make_cells: MakeCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, query = make_cells(num_cells=20, seed=1), make_cells(num_cells=3, seed=2)
    monkeypatch.setattr(Inference, "cell_embeddings", lambda *_, **__: pytest.fail("embedded"))
    query.var_names = [f"gene{i}" for i in range(400)]
    reference.obs["alike"] = "same"
    few = make_cells(num_cells=3, seed=2)[:, :150].copy()
    for key, asked, error in (
        ("type", query, FieldError),
        ("alike", query, ConfigError),
        ("cell_type", query, GeneMatchError),
        ("cell_type", few, GeneMatchError),
    ):
        with pytest.raises(error):
            xt.tl.annotate(asked, reference=reference, model=tiny_model, min_genes=1, label_key=key)


@pytest.mark.parametrize("method", ["ensemble", "knn"])
def test_a_kept_annotator_says_what_its_reference_says(
    method: str, tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path
) -> None:
    reference, query = make_cells(num_cells=30, seed=1), make_cells(num_cells=8, seed=2)
    reference.obs["kind"] = np.resize(["a / b", "c"], 30)
    reference.obs["donor"] = np.resize(["one", "one", "two", "two", "three", None], 30)
    options = {"model": tiny_model, "min_genes": 1}
    learning = {"label_key": "kind", "group_key": "donor", "method": method}
    without = r"5 cells of the reference that have a label are not used, since obs\['donor'\] holds nothing"
    with pytest.warns(UserWarning, match=without):
        folder = xt.training.fit_annotator(reference, tmp_path / "kept", **learning, **options)
    assert sorted(path.name for path in folder.iterdir()) == ["annotator.json", "arrays.safetensors", "card.md"]
    with pytest.warns(UserWarning, match=without):
        directly = xt.tl.annotate(query.copy(), reference=reference, **learning, **options)
    kept = xt.tl.annotate(query.copy(), annotator=folder, **options)
    pd.testing.assert_frame_equal(kept.obs, directly.obs)
    kept.write_h5ad(tmp_path / "annotated.h5ad")
    learned = kept.uns["xtrimogene_annotation"]["annotator"]
    assert learned["held_out_by"] == "donor" and sum(learned["cells"]) == 25, "cells without a donor are not used"


def test_genes_that_the_query_did_not_measure_are_not_read(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path
) -> None:
    """A reference without them says the same; an annotator that learned from all of them says so."""
    reference, query = make_cells(num_cells=30, seed=1), make_cells(num_cells=8, seed=2)
    reference.obs["kind"] = np.resize(["a", "b"], 30)
    query = query[:, :300].copy()
    options = {"model": tiny_model, "min_genes": 1}
    learning = {"label_key": "kind", "baselines": False} | options
    without = reference[:, reference.var_names.isin(query.var_names)].copy()
    found, wanted = (xt.tl.annotate(query.copy(), reference=one, **learning) for one in (reference, without))
    pd.testing.assert_frame_equal(found.obs, wanted.obs)
    held_out = found.uns["xtrimogene_annotation"]["held_out"]
    assert "baselines" not in held_out and "coverage" in held_out
    folder = xt.tl.fit_annotator(reference, tmp_path / "kept", **learning)
    with pytest.warns(
        UserWarning, match=r"the genes measured here hold \d\d% of the counts that the annotator learned"
    ):
        kept = xt.tl.annotate(query.copy(), annotator=folder, **options)
    assert (kept.obs["xtrimogene_confidence"] != found.obs["xtrimogene_confidence"]).any(), "it had read more genes"
    with pytest.raises(GeneMatchError, match=r"the genes measured here hold \d+% of the reference's counts"):
        xt.tl.annotate(query[:, :150].copy(), annotator=folder, **options)


def test_genes_that_the_reference_did_not_measure_are_not_read(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path
) -> None:
    reference, query = make_cells(num_cells=30, seed=1)[:, :300].copy(), make_cells(num_cells=8, seed=2)
    few = np.arange(300) < 40
    reference.X = reference.X.multiply(~few).tocsr()  # of these genes no counts, though measured
    learning = {"label_key": "cell_type", "baselines": False, "model": tiny_model, "min_genes": 1}
    folder = xt.tl.fit_annotator(reference, tmp_path / "kept", **learning)
    cut = query[:, query.var_names.isin(reference.var_names)].copy()
    given = {"model": tiny_model, "min_genes": 1}
    for options in ({"annotator": folder} | given, {"reference": reference} | learning):
        found, wanted = (xt.tl.annotate(one.copy(), **options).obs[COLUMNS] for one in (query, cut))
        pd.testing.assert_frame_equal(found, wanted)
    cut.X = cut.X.multiply(~few).tocsr()
    other = xt.tl.annotate(cut, annotator=folder, **given).obs
    assert (other["xtrimogene_confidence"] != found["xtrimogene_confidence"]).any(), "it was read in the query"


def test_what_there_is_to_warn_of_the_query_is_said_once(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    reference, query = make_cells(num_cells=20, seed=1), make_cells(num_cells=3, seed=2)
    more = np.ones((3, 150))
    names = [*query.var_names, *(f"unknown{number}" for number in range(150))]
    query = AnnData(np.hstack([query.X.toarray(), more]), obs=query.obs, var=pd.DataFrame(index=names))
    with pytest.warns(UserWarning, match="of the counts") as said:
        xt.tl.annotate(query, reference=reference, label_key="cell_type", model=tiny_model, min_genes=1)
    assert sum("of the counts" in str(one.message) for one in said) == 1


def test_an_annotator_belongs_to_its_model(tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path) -> None:
    cells = make_cells(num_cells=20)
    options = {"label_key": "cell_type", "min_genes": 1}
    folder = xt.tl.fit_annotator(cells, tmp_path / "kept", model=tiny_model, **options)
    other = replace(tiny_model, sha256="f" * 64, name="other")
    for annotator, name in ((folder, "kept'"), (load_annotator(folder), "the annotator")):
        with pytest.raises(CheckpointError, match=f"{name} was fitted on vectors of 'tiny' .* not of 'other'"):
            xt.tl.annotate(cells, annotator=annotator, model=other, min_genes=1)
    with pytest.raises(CheckpointError, match="exists already"):
        xt.tl.fit_annotator(cells, folder, model=tiny_model, **options)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"annotator": 1, "method": "knn"},
        {"annotator": 1, "baselines": False},
        {"annotator": 1, "align": False},
        {"reference": 1},
        {"label_key": "kind"},
        {"annotator": 1, "label_key": "kind"},
        {"annotator": 1, "reference": 1},
    ],
)
def test_a_reference_or_an_annotator(
    given: dict[str, object], tiny_model: PretrainedModel, make_cells: MakeCells
) -> None:
    cells = make_cells()
    options = {name: {"reference": cells, "annotator": "folder"}.get(name, value) for name, value in given.items()}
    with pytest.raises(
        ConfigError, match="needs reference= with label_key=, or annotator= without any option of learning"
    ):
        xt.tl.annotate(cells, model=tiny_model, **options)


def test_numbers_of_clusters_are_labels_and_missing_ones_are_not(
    tiny_model: PretrainedModel, make_cells: MakeCells
) -> None:
    reference, query = make_cells(num_cells=60, seed=1), make_cells(num_cells=3, seed=2)
    reference.obs["cluster"] = pd.Categorical(np.resize([1, 2, None], 60))
    reference.obs["name"] = np.resize(["a", "b", "nan", ""], 60)
    options = {"reference": reference, "model": tiny_model, "min_genes": 1}
    for key, names in (("cluster", ["1", "2"]), ("name", ["a", "b"])):
        xt.tl.annotate(query, label_key=key, **options)
        assert query.uns["xtrimogene_annotation"]["annotator"]["labels"] == names


@pytest.fixture
def typed(make_cells: MakeCells) -> AnnData:
    pytest.importorskip("cellxgene_ontology_guide", reason="the extra ontology is not installed")
    cells = make_cells(num_cells=60, seed=1)
    ids = {"type 0": "CL:0000624", "type 1": "CL:0000084", "type 2": "unknown"}
    cells.obs["id"] = cells.obs["cell_type"].astype(str).map(ids)
    return cells


def test_possible_labels_are_rolled_up(
    typed: AnnData, tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path
) -> None:
    options = {"label_key": "cell_type", "ontology_key": "id"}
    query = make_cells(num_cells=12, seed=2)
    xt.tl.annotate(query, reference=typed, model=tiny_model, min_genes=1, error_rate=0.02, **options)
    wanted = {"type 0": "CL:0000624", "type 1": "CL:0000084", "type 0 | type 1": "CL:0000084"}
    found = query.obs["xtrimogene_ontology_id"].astype(object)
    unknown = query.obs["xtrimogene_unknown"]
    assert [wanted.get(possible) for possible in query.obs["xtrimogene_possible"][~unknown]] == [
        None if pd.isna(one) else one for one in found[~unknown]
    ]
    assert found[unknown].isna().all() and query.obs["xtrimogene_ontology_name"].isna().equals(found.isna())
    folder = xt.tl.fit_annotator(typed, tmp_path / "kept", model=tiny_model, min_genes=1, **options)
    kept = make_cells(num_cells=12, seed=2)
    xt.tl.annotate(kept, annotator=folder, model=tiny_model, min_genes=1, error_rate=0.02)
    pd.testing.assert_frame_equal(kept.obs, query.obs)
    kept.write_h5ad(tmp_path / "rolled.h5ad")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type 0": "T cell"}, "holds 'T cell', which is no id of a cell type"),
        ({"type 0": None, "type 1": None}, "holds no id of a cell type"),
        ({}, "the label 'all' has two ids"),
    ],
)
def test_ids_that_are_none_are_refused(
    change: dict[str, str | None], words: str, typed: AnnData, tiny_model: PretrainedModel, make_cells: MakeCells
) -> None:
    kind = typed.obs["cell_type"].astype(str)
    typed.obs["id"] = [change.get(one, term) for one, term in zip(kind, typed.obs["id"], strict=True)]
    if not change:
        typed.obs["cell_type"] = np.where(kind == "type 2", kind, "all")
    with pytest.raises(FieldError, match=words):
        xt.tl.annotate(
            make_cells(), reference=typed, label_key="cell_type", ontology_key="id", model=tiny_model, min_genes=1
        )


def test_names_of_types_have_ids(typed: AnnData) -> None:
    assert xt.get.cell_ontology_ids(["T cell", "no such cell"]) == {"T cell": "CL:0000084"}
    assert xt.get.cell_ontology_ids(["alpha cell"]) == {}, "one of the mouse's neurons is called so"
    (name, term), *_ = xt.get.cell_ontology_ids(["alpha retinal ganglion cell (Mmus)"]).items()
    assert term == "CL:0004117", f"{name} is asked for by its own name"


def test_neighbours_vote_where_asked_to(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    reference, query = make_cells(num_cells=60, seed=1), make_cells(num_cells=12, seed=2)
    xt.tl.annotate(query, reference=reference, label_key="cell_type", model=tiny_model, min_genes=1, vote=True)
    unknown = query.obs["xtrimogene_unknown"]
    assert query.obs["xtrimogene_voted"].notna().all()
    assert (query.obs["xtrimogene_voted"][unknown] == "unknown").all()
    assert list(query.obs["xtrimogene_voted"].cat.categories) == ["type 0", "type 1", "type 2", "unknown"]


def test_few_held_out_cells_are_said(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    reference, query = make_cells(num_cells=12, seed=1), make_cells(num_cells=3, seed=2)
    learning = {"reference": reference, "label_key": "cell_type", "model": tiny_model, "min_genes": 1}
    few = "12 cells of the reference could be held out, so novelty_rate=0.05 calls no .* or ask for (0.077)"
    with pytest.warns(UserWarning, match=few):
        xt.tl.annotate(query, **learning)
    assert not query.obs["xtrimogene_unknown"].any()
    with pytest.warns(UserWarning) as said:  # 1 / 9 is no 0.111
        xt.tl.annotate(query, **learning | {"reference": reference[:8].copy()}, novelty_rate=0.112, error_rate=0.111)
    assert [str(one.message) for one in said if "held out" in str(one.message)] == [
        "8 cells of the reference could be held out, so error_rate=0.111 excludes no label; label more cells, or ask "
        "for 0.112."
    ]


def test_a_type_is_described_by_its_markers(blood: tuple[AnnData, AnnData], tmp_path: Path) -> None:
    reference, query = (cells.copy() for cells in blood)
    learning = {"reference": reference, "label_key": "cell_type", "baselines": False, "progress": False}
    markers = {"Platelet": ["TUBB1", "ENSG00000163737", "PF4"]}
    xt.tl.annotate(query, method="match", markers=markers, **learning)
    found, true = query.obs["xtrimogene_label"].astype(str), query.obs["cell_type"].astype(str)
    assert (found == true)[:60].mean() > 0.8
    assert (found == "Platelet").to_numpy()[60:].mean() > 0.8 and not (found == "Platelet").to_numpy()[:60].any()
    record = query.uns["xtrimogene_annotation"]
    assert record["candidates"] == [*KINDS, "Platelet"]
    assert record["described"] == ["Platelet: TUBB1, ENSG00000163737, PF4"]
    query.write_h5ad(tmp_path / "annotated.h5ad")

    folder = xt.tl.fit_annotator(
        reference, tmp_path / "kept", label_key="cell_type", method="match", baselines=False, progress=False
    )
    again = blood[1].copy()
    with pytest.warns(UserWarning) as said:
        xt.tl.annotate(again, annotator=folder, markers=markers, candidates=["B cells", "Platelet"], progress=False)
    assert any("is no candidate" in str(one.message) for one in said)
    assert again.obs["xtrimogene_unknown"].to_numpy()[20:60].mean() > 0.9, "no candidate fits them"
    assert set(again.obs["xtrimogene_label"].astype(str)) <= {"B cells", "Platelet", "unknown"}
    assert (again.obs["xtrimogene_label"].astype(str) == "Platelet").to_numpy()[60:].mean() > 0.8


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"markers": {"DC": ["XYZ0"]}}, GeneMatchError, "The model has no gene 'XYZ0'"),
        ({"markers": {"DC": ["XYZ0"]}}, GeneMatchError, "markers of 'DC': "),
        (
            {"markers": {"unknown": ["CD1C"]}},
            ConfigError,
            "describes 'unknown': a text is needed that is not 'unknown'",
        ),
        ({"markers": {"B | T": ["CD1C"]}}, ConfigError, "describes 'B | T': a text is needed"),
        ({"candidates": "B cells"}, ConfigError, r"candidates='B cells': a list of labels is needed"),
        ({"markers": {"DC": []}}, GeneMatchError, "a list of symbols or Ensembl ids is needed"),
        ({"markers": {"DC": "FCER1A"}}, GeneMatchError, "a list of symbols or Ensembl ids is needed"),
        ({"markers": {"DC": ["FCER1A"]}}, ConfigError, "labels to method='match', and the method is 'ensemble'"),
        ({"candidates": ["B cell"]}, ConfigError, "candidates= holds 'B cell'; the labels are 'B cells', 'Monocytes'"),
    ],
)
def test_markers_and_candidates_that_cannot_be(
    options: dict[str, object], error: type[Exception], words: str, blood: tuple[AnnData, AnnData]
) -> None:
    with pytest.raises(error, match=words):
        xt.tl.annotate(blood[1].copy(), reference=blood[0], label_key="cell_type", progress=False, **options)


@pytest.mark.parametrize(
    ("markers", "error", "words"),
    [
        (["FCER1A"], ConfigError, r"markers=\['FCER1A'\]: genes by label are needed, such as {'Platelet': "),
        ({"DC": None}, GeneMatchError, "markers of 'DC': genes=None: a list of symbols or Ensembl ids is needed"),
    ],
)
def test_markers_of_another_shape_are_refused(
    markers: Any, error: type[Exception], words: str, tiny_model: PretrainedModel
) -> None:
    unchecked, places = inspect.unwrap(read_markers), inspect.unwrap(GeneVocabulary.places)
    genes = SimpleNamespace(places=partial(places, tiny_model.genes))  # without the type checks that tests switch on
    with pytest.raises(error, match=words):
        unchecked(markers, genes)


def test_what_weakens_named_labels_is_said(blood: tuple[AnnData, AnnData]) -> None:
    reference, query = (cells.copy() for cells in blood)
    learning = {"reference": reference, "label_key": "cell_type", "baselines": False, "progress": False}
    few = query[:, ~query.var_names.isin(["TUBB1"])].copy()
    markers = {"Platelet": ["TUBB1", "PF4"]}
    with pytest.warns(UserWarning, match="1 of 2 markers of 'Platelet' were not measured in both, query and reference"):
        xt.tl.annotate(few, method="match", markers=markers, **learning)
    with pytest.warns(UserWarning) as said:
        xt.tl.annotate(query, candidates=pd.Index(["NK cells", "B cells"]), key_added="X_sorted", **learning)
    assert any("of the cells is no candidate; such a cell gets one, or is unknown" in str(one.message) for one in said)
    assert set(query.obs["sorted_label"].astype(str)) <= {"NK cells", "B cells", "unknown"}
    assert query.uns["sorted_annotation"]["best_label_no_candidate"] >= 15


TUNING = FineTuneConfig(peak_lr=1e-2, head_lr=1e-2, step_tokens=400, steps_per_epoch=25, max_epochs=2, averaging=0.5)


@pytest.fixture
def told_apart(make_cells: MakeCells) -> tuple[AnnData, AnnData]:
    """Return 40 cells to learn from and 10 to ask for, of two kinds that twenty genes tell apart, in two lanes."""
    both = []
    for number, seed in ((40, 1), (10, 2)):
        cells = make_cells(num_cells=number, seed=seed)
        counts = cells.X.tolil()
        for cell in range(number):
            counts[cell, slice(0, 20) if cell % 2 else slice(20, 40)] = 4
        cells.X = counts.tocsr().astype(np.float32)
        cells.obs["kind"] = np.resize(["even", "odd"], number)
        cells.obs["lane"] = np.resize(["one", "one", "two", "two"], number)
        both.append(cells)
    return both[0], both[1]


def test_a_tuned_annotator_says_what_its_reference_says(
    tiny_model: PretrainedModel, told_apart: tuple[AnnData, AnnData], tmp_path: Path
) -> None:
    reference, query = told_apart
    reference.X = reference.X.multiply(np.where(np.arange(40) < 3, 0, 1)[:, None]).tocsr()
    reference.obs["lane"] = np.where(np.arange(40) == 39, None, reference.obs["lane"].to_numpy())
    options = {"model": tiny_model, "min_genes": 1}
    learning = {"label_key": "kind", "batch_key": "lane", "method": "finetune", "tuning": TUNING, "baselines": False}
    said = [r"1 cells of the reference .* since obs\['lane'\]", "3 cells of the reference have no counts"]
    with pytest.warns(UserWarning, match=said[0]), pytest.warns(UserWarning, match=said[1]):
        folder = xt.training.fit_annotator(reference, tmp_path / "kept", **learning, **options)
    with pytest.warns(UserWarning, match=said[0]), pytest.warns(UserWarning, match=said[1]):
        directly = xt.tl.annotate(query.copy(), reference=reference, **learning, **options)
    files = ["annotator.json", "arrays.safetensors", "card.md", "tuned.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == files
    kept = xt.tl.annotate(query.copy(), annotator=folder, **options)
    pd.testing.assert_frame_equal(kept.obs, directly.obs)
    kept.write_h5ad(tmp_path / "annotated.h5ad")
    record = kept.uns["xtrimogene_annotation"]
    assert record["method"] == "finetune" and sum(record["annotator"]["cells"]) == 36, "a cell without a lane is out"
    told = record["annotator"]["tuning"]
    assert told["batch_key"] == "lane" and told["peak_lr"] == 1e-2
    assert told["epochs"] == int(np.argmin(told["held_out_losses"])) > 0


def test_answers_are_those_of_the_tuned_weights(
    tiny_model: PretrainedModel, told_apart: tuple[AnnData, AnnData], tmp_path: Path
) -> None:
    reference, query = told_apart
    options = {"model": tiny_model, "min_genes": 1}
    learning = {"label_key": "kind", "method": "finetune", "tuning": TUNING, "baselines": False}
    folder = xt.training.fit_annotator(reference, tmp_path / "kept", **learning, **options)
    saved = load_annotator(folder)
    assert saved.tuned is not None
    tuned = replace(tiny_model, network=with_weights(tiny_model.network, saved.tuned))
    with_them = xt.tl.embed(query.copy(), tuned, min_genes=1).obsm["X_xtrimogene"]
    without = xt.tl.embed(query.copy(), tiny_model, min_genes=1).obsm["X_xtrimogene"]
    assert np.abs(with_them - without).max() > 0.1
    asked = answer(query, saved, Inference(tiny_model), tiny_model, {"min_genes": 1, "progress": False}, **RATES).asked
    np.testing.assert_array_equal(asked.embedding, with_them)
    neighbors = saved.annotator.learned.neighbors.embedding
    np.testing.assert_array_equal(neighbors, xt.tl.embed(reference.copy(), tuned, min_genes=1).obsm["X_xtrimogene"])


def test_tuning_that_does_not_help_is_said(
    tiny_model: PretrainedModel, told_apart: tuple[AnnData, AnnData], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, query = told_apart
    worse = iter([0.5, 0.6, 0.7])
    judged = partial(tuning.tune, judge=lambda scores, label: next(worse))
    monkeypatch.setattr(tuning, "tune", judged)
    options = {"label_key": "kind", "model": tiny_model, "min_genes": 1, "baselines": False, "tuning": TUNING}
    with pytest.warns(UserWarning, match="made the answers to held-out cells no better, so the model stays as it is"):
        xt.tl.annotate(query, reference=reference, method="finetune", **options)
    told = query.uns["xtrimogene_annotation"]["annotator"]["tuning"]
    assert told["epochs"] == 0 and told["held_out_losses"] == [0.5, 0.6, 0.7]


def test_tuning_holds_out_groups_and_knows_batches(
    tiny_model: PretrainedModel, told_apart: tuple[AnnData, AnnData], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, query = told_apart
    reference.obs["donor"] = np.repeat(["d1", "d2", "d3", "d4"], 10)
    kept = []
    whole = tuning.tune

    def keep(*arguments: Any, **options: Any) -> Tuned:
        kept.extend([whole(*arguments, **options), options["batches"]])
        return kept[0]

    monkeypatch.setattr(tuning, "tune", keep)
    options = {"label_key": "kind", "model": tiny_model, "min_genes": 1, "baselines": False, "tuning": TUNING}
    keys = {"group_key": "donor", "batch_key": "lane"}
    xt.tl.annotate(query, reference=reference, method="finetune", **keys, **options)
    tuned, batches = kept
    donor = reference.obs["donor"].to_numpy()
    assert len(tuned.splits) == 3
    for split in tuned.splits:
        assert not set(donor[split.train]) & set(donor[split.test])
    np.testing.assert_array_equal(batches, reference.obs["lane"])


def test_options_of_tuning_are_for_finetune(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    reference, query = make_cells(num_cells=12, seed=1), make_cells(num_cells=3, seed=2)
    reference.obs["kind"], reference.obs["one"] = np.resize(["a", "b"], 12), "same"
    options = {"reference": reference, "label_key": "kind", "model": tiny_model, "min_genes": 1}
    for name, value in (("batch_key", "one"), ("tuning", TUNING)):
        with pytest.raises(ConfigError, match=f"{name}= is an option of method='finetune', .* is 'ensemble'; leave it"):
            xt.tl.annotate(query, **options, **{name: value})
    with pytest.raises(FieldError, match=r"obs\['one'\] holds one batch; leave batch_key out"):
        xt.tl.annotate(query, **options, method="finetune", batch_key="one")
    with pytest.raises(ConfigError, match="without any option of learning"):
        xt.tl.annotate(query, annotator="folder", tuning=TUNING, model=tiny_model)
