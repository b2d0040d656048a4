"""`tl.fit_perturbation` and `tl.perturb`: from a screen to predictions, and what is refused in one sentence."""

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from safetensors.numpy import load, save
from scipy.sparse import csr_matrix, vstack

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.data.gene_names import name_index
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import (
    CheckpointError,
    ConfigError,
    CountsError,
    FieldError,
    GeneMatchError,
    XTrimoGeneError,
)
from xtrimogene.tasks.perturbation import held_out, predictor
from xtrimogene.tasks.perturbation.cell_groups import deal_cells
from xtrimogene.tasks.perturbation.control_genes import ControlGenes
from xtrimogene.tasks.perturbation.gene_knowledge import GeneKnowledge
from xtrimogene.tasks.perturbation.predictor_folder import load_predictor
from xtrimogene.tasks.perturbation.simulation import simulate_cells
from xtrimogene.tl.perturbation import fit_perturbation, perturb
from xtrimogene.tl.perturbed_cells import exact_places, read_screen, rename_parts

Fit = Callable[..., Path]
GENES = 8
READING = {"layer": None, "input_kind": "auto", "min_genes": 1}


@pytest.fixture
def screen(tiny_model: PretrainedModel, make_counts: Callable[..., csr_matrix]) -> AnnData:
    """Return 60 controls and 12 cells of each of 8 genes and a pair, all of which act on the first 30 columns."""
    random = np.random.default_rng(0)
    order = random.permutation(400)
    symbols = [tiny_model.genes.symbols[gene] for gene in order]
    controls = make_counts(60, 400, 0.3)
    changes = {name: np.where(np.arange(400) < 30, 2.0, 0.0) * random.normal(1, 0.1) for name in symbols[:GENES]}
    changes[f"{symbols[1]}+{symbols[0]}"] = changes[symbols[0]] + changes[symbols[1]]
    counts, names = simulate_cells(controls, changes, num_cells=12)
    obs = pd.DataFrame(
        {
            "gene": pd.Categorical(["ctrl"] * 60 + names.tolist()),
            "batch": [f"batch {number % 2}" for number in range(60 + len(names))],
        },
        index=[f"cell{number}" for number in range(60 + len(names))],
    )
    return AnnData(vstack([controls, counts], format="csr"), obs=obs, var=pd.DataFrame(index=symbols))


@pytest.fixture
def fit(tiny_model: PretrainedModel, screen: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    monkeypatch.setattr(held_out, "SEEDS", (0,))
    monkeypatch.setattr(predictor, "NUM_FOLDS", 3)

    def build(**options: object) -> Path:
        given = {"perturbation_key": "gene", "control": "ctrl", "model": tiny_model, "min_genes": 1, "progress": False}
        given |= {"min_cells": 5, "adata": screen, "folder": tmp_path / "predictor"} | options
        return fit_perturbation(given.pop("adata"), given.pop("folder"), **given)

    return build


@pytest.mark.parametrize("method", ["linear", "graph"])
def test_a_screen_predicts_the_genes_it_lacks(
    method: str, fit: Fit, screen: AnnData, tiny_model: PretrainedModel
) -> None:
    before = screen.X.copy()
    folder = fit(method=method)
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.safetensors", "perturbation.json"]
    card = json.loads((folder / "perturbation.json").read_text())["card"]
    assert card["held_out"]["perturbation"]["num_units"] == GENES + 1 and len(card["verdicts"]) == 1
    symbols = screen.var_names
    asked = [symbols[20], symbols[0], f"{symbols[0]}+{symbols[20]}", f"{symbols[3]}+{symbols[2]}"]
    found = perturb(screen, folder, asked, model=tiny_model, min_cells=5, min_genes=1)
    assert found.obs["perturbation"].tolist() == asked
    assert found.obs["asked"].tolist() == ["perturbation", "context", "perturbation", "combination"]
    assert found.obs["seen"].tolist() == ["0 of 1", "1 of 1", "1 of 2", "2 of 2"]
    assert found.obs["beats_baseline"].tolist()[1::2] == ["not tested", "not tested"]
    assert found.obs["held_out_rmse"].iloc[0] > 0 and np.isnan(found.obs["held_out_rmse"].iloc[1])
    risen = found[:, symbols[:30]].X.mean(axis=1)
    assert (risen > 0.05).all() and risen[3] > risen[1] > 0.3
    assert found.layers["expression"].min() >= 0
    controls = screen[(screen.obs["gene"] == "ctrl").to_numpy()]
    again = perturb(controls.copy(), folder, [asked[2]], model=tiny_model, min_cells=5, min_genes=1)
    np.testing.assert_allclose(again.X, found.X[[2]], atol=1e-5)
    assert (before != screen.X).nnz == 0 and not screen.uns


def test_contexts_are_predicted_each_from_its_own_controls(
    fit: Fit, screen: AnnData, tiny_model: PretrainedModel
) -> None:
    single = screen[~screen.obs["gene"].str.contains("+", regex=False).to_numpy()].copy()
    folder = fit(adata=single, group_key="batch")
    name = screen.var_names[0]
    found = perturb(screen, folder, [name], model=tiny_model, group_key="batch", min_cells=5, min_genes=1)
    assert found.obs_names.tolist() == [f"{name} in batch 0", f"{name} in batch 1"]
    expression = found.layers["expression"] - found.X
    values = np.log1p(1e4 * screen.X.toarray() / screen.X.sum(axis=1))
    here = (screen.obs["gene"] == "ctrl") & (screen.obs["batch"] == "batch 1")
    expected = pd.Series(np.asarray(values[here.to_numpy()].mean(axis=0)).ravel(), index=screen.var_names)
    np.testing.assert_allclose(expression[1], expected[found.var_names], atol=1e-3)
    assert found.uns["xtrimogene_perturbation"]["num_controls"] == [30, 30]
    assert found.obs["beats_baseline"].tolist() == ["not tested"] * 2  # a fold would have one context to learn from


def test_a_drug_is_predicted_in_other_contexts_only(fit: Fit, screen: AnnData, tiny_model: PretrainedModel) -> None:
    screen.obs["gene"] = ["ctrl" if name == "ctrl" else "drug X" for name in screen.obs["gene"]]
    with pytest.warns(UserWarning, match="'drug X' name no gene of the model, so they are predicted in other contexts"):
        folder = fit(group_key="batch")
    found = perturb(screen, folder, ["drug X"], model=tiny_model, min_cells=5, min_genes=1)
    assert found.obs["asked"].tolist() == ["context"] and found.X[:, :].mean() != 0
    with pytest.raises(GeneMatchError, match="'drug Y' in 'drug Y' is no gene of the model's 400 and was not learned"):
        perturb(screen, folder, ["drug Y"], model=tiny_model, min_cells=5, min_genes=1)


def test_a_graph_and_other_genes_are_read(fit: Fit, screen: AnnData, tiny_model: PretrainedModel) -> None:
    names = screen.var_names
    edges = pd.DataFrame({"source": names[:10], "target": names[10:20], "weight": 1.0})
    folder = fit(graph=edges)
    saved = load_predictor(folder)
    assert saved.knowledge.graph is not None and saved.knowledge.graph.nnz == 20
    assert "graph" in saved.predictor(("a",), np.array([0])).fitted["perturbation"].features.sources
    few = screen[:, 12:].copy()
    found = perturb(few, folder, [names[12]], model=tiny_model, min_cells=5, min_genes=1)
    assert found.n_vars == 388 and set(found.var_names) == set(few.var_names)
    with pytest.raises(GeneMatchError, match="300 of the 400 genes .* they hold about .* at least 90% are needed"):
        perturb(screen[:, 100:].copy(), folder, [names[12]], model=tiny_model, min_cells=5, min_genes=1)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"perturbation_key": "genes"}, FieldError, "the screen's obs has no 'genes', it has gene, batch"),
        ({"control": "Ctrl"}, ConfigError, "no cell has 'Ctrl' in obs\\['gene'\\]; is it 'ctrl'\\?"),
        ({"control": "non-targeting"}, ConfigError, "no cell has 'non-targeting' in obs"),
        ({"group_key": "donor"}, FieldError, "no 'donor'"),
        ({"min_cells": 61}, CountsError, "no context has 61 control cells, the most are 60"),
        ({"graph": pd.DataFrame({"from": ["A"]})}, FieldError, "the graph has no column 'source', it has from"),
        ({"graph": pd.DataFrame({"source": ["A"], "target": ["B"]})}, ConfigError, "no edge of the gene graph joins"),
        ({"graph": pd.DataFrame({"source": ["A"], "target": ["B"], "weight": ["x"]})}, ConfigError, "'weight' holds"),
        ({"seed": -1}, ConfigError, "seed=-1 must be 0 or more"),
        ({"input_kind": "log1p"}, CountsError, "a perturbation is measured on counts"),
    ],
)
def test_a_screen_that_cannot_be_is_refused(
    change: dict[str, object], error: type[XTrimoGeneError], words: str, fit: Fit, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(error, match=words):
            fit(**change)
    assert not (tmp_path / "predictor").exists()


def test_few_and_unnamed_cells_are_told(fit: Fit, screen: AnnData) -> None:
    names = screen.obs["gene"].astype(object).to_numpy(copy=True)
    kept = screen.var_names[20]
    names[60:63], names[63] = kept, None
    screen.obs["gene"] = names
    with (
        pytest.warns(UserWarning, match="1 of 168 cells have no perturbation or group"),
        pytest.warns(UserWarning, match=f"1 perturbations have fewer than 5 cells .*: {kept}"),
    ):
        fit()


def test_what_is_asked_must_be_known(fit: Fit, screen: AnnData, tiny_model: PretrainedModel) -> None:
    folder, names = fit(), screen.var_names

    def ask(asked: object, **options: object) -> None:
        perturb(screen, folder, asked, **{"model": tiny_model, "min_cells": 5, "min_genes": 1} | options)  # type: ignore[arg-type]

    with pytest.raises(GeneMatchError, match=f"'NOGENE' in '{names[0]}\\+NOGENE' is no gene"):
        ask([f"{names[0]}+NOGENE"])
    with pytest.raises(ConfigError, match="are one perturbation; give it once"):
        ask([f"{names[0]}+{names[1]}", f"{names[1]}+{names[0]}"])
    with pytest.raises(ConfigError, match=f"'{names[0]}' is named twice"):
        ask([names[0], names[0]])
    with pytest.raises(ConfigError, match="'ctrl' is the control"):
        ask(["ctrl"])
    with pytest.raises(ConfigError, match="a list is needed"):
        ask([])
    with pytest.raises(CountsError, match="'all cells' has 60 control cells, and at least 100 are needed"):
        ask([names[0]], min_cells=100)
    with pytest.raises(CheckpointError, match="was fitted with vectors of 'tiny'|sha256"):
        ask([names[0]], model="demo")
    screen.obs["gene"] = "treated"
    with pytest.raises(ConfigError, match="no cell has 'ctrl'"):
        ask([names[0]])


def test_a_damaged_folder_is_refused(fit: Fit, screen: AnnData, tiny_model: PretrainedModel, tmp_path: Path) -> None:
    folder = fit(method="graph")
    card, arrays = (folder / "perturbation.json").read_text(), (folder / "arrays.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        fit()
    for name, value in (
        ("train.context", np.full(9, 7)),
        ("train.change", np.full((9, 400), np.nan)),
        ("genes", -np.ones(400, int)),
    ):
        altered = load(arrays) | {name: value}
        (folder / "arrays.safetensors").write_bytes(save(altered))
        facts = json.loads(card)
        facts["sha256"] = file_sha256(folder / "arrays.safetensors")
        (folder / "perturbation.json").write_text(json.dumps(facts))
        with pytest.raises(CheckpointError, match="is no predictor of ours"):
            load_predictor(folder)
    kernel = {"weights": {"moon": 1.0}, "shared": 0.0, "pairs": 0.0, "near": 0.0}
    choice = {"kernel": kernel, "strength": 1.0, "denoise": 0.0, "error": 0.0, "error_of_mean": 0.0, "num_held_out": 9}
    (folder / "arrays.safetensors").write_bytes(arrays)
    (folder / "perturbation.json").write_text(json.dumps(json.loads(card) | {"choices": {"perturbation": choice}}))
    with pytest.raises(CheckpointError, match="is no predictor of ours .*kernel"):
        load_predictor(folder)


def test_control_cells_without_a_group_are_no_context(screen: AnnData, tiny_model: PretrainedModel) -> None:
    batch = screen.obs["batch"].astype(object).to_numpy(copy=True)
    batch[:10], batch[10:20] = None, "unknown"
    screen.obs["batch"] = batch
    options = {"control": "ctrl", "group_key": "batch", "min_cells": 5, "seed": 0, "reading": READING}
    with pytest.warns(UserWarning, match="20 of 168 cells have no perturbation or group"):
        found = read_screen(screen, tiny_model, perturbation_key="gene", **options)  # type: ignore[arg-type]
    assert found.sums.groups.context_names == ("batch 0", "batch 1")
    assert found.sums.effects().num_controls.sum() == 40


def test_an_alias_is_no_gene(tiny_model: PretrainedModel) -> None:
    genes = tiny_model.genes
    names = name_index(genes.symbols, genes.ensembl_ids).aliases
    alias = next(name for name in names if genes.match({"gene": [name]}).rule[0] == "alias")
    with pytest.warns(UserWarning, match="an alias of this gene, and taken for no gene"):
        assert rename_parts([alias], "ctrl", genes) == {alias: alias}
    symbol, ensembl_id = genes.symbols[3], genes.ensembl_ids[3]
    assert rename_parts([ensembl_id], "ctrl", genes) == {ensembl_id: symbol}
    with pytest.raises(ConfigError, match=f"are one gene, {symbol}; give it one name"):
        rename_parts([symbol, ensembl_id], "ctrl", genes)
    assert exact_places([alias, symbol], genes).tolist() == [-1, 3]


def test_half_of_the_control_cells_may_be_fewer(fit: Fit, screen: AnnData) -> None:
    few = screen[10 * [True] + 50 * [False] + [True] * (screen.n_obs - 60)].copy()
    card = json.loads((fit(adata=few, min_cells=10) / "perturbation.json").read_text())["card"]
    assert card["held_out"]["perturbation"]["num_units"] == GENES + 1


def test_too_few_control_cells_to_judge_by_are_told(fit: Fit, screen: AnnData) -> None:
    few = screen[2 * [True] + 58 * [False] + [True] * (screen.n_obs - 60)].copy()
    with pytest.warns(UserWarning, match="too few control cells to learn from one half"):
        folder = fit(adata=few, min_cells=2)
    assert json.loads((folder / "perturbation.json").read_text())["card"]["held_out"] == {}


def test_control_cells_that_judge_say_nothing_of_genes(
    fit: Fit, screen: AnnData, tiny_model: PretrainedModel, tmp_path: Path
) -> None:
    first, other, altered = load_predictor(fit(folder=tmp_path / "first")), screen.copy(), screen.X.tolil()
    names = screen.obs["gene"].astype(str).to_numpy(str)
    quarter = deal_cells(names, np.full(len(names), "all cells"), "ctrl", min_cells=5).quarter
    judging = np.flatnonzero((quarter == 1) | (quarter == 3))
    altered[judging] = screen.X[judging][:, ::-1]
    other.X = csr_matrix(altered)
    again = load_predictor(fit(adata=other, folder=tmp_path / "again"))
    np.testing.assert_array_equal(first.knowledge.states, again.knowledge.states)
    assert (first.coexpression != again.coexpression).nnz == 0
    assert not np.allclose(first.train.control, again.train.control)


@pytest.mark.parametrize("method", ["linear", "graph"])
def test_nothing_is_known_of_a_context_that_is_held_out(
    method: str, fit: Fit, screen: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.obs["gene"] = ["ctrl" if name == "ctrl" else "drug X" for name in screen.obs["gene"]]
    screen.obs["batch"] = [f"batch {number % 3}" for number in range(screen.n_obs)]
    asked: list[tuple[str, ...]] = []
    knowledge = ControlGenes.knowledge

    def recording(self: ControlGenes, contexts: tuple[str, ...]) -> GeneKnowledge:
        asked.append(contexts)
        return knowledge(self, contexts)

    monkeypatch.setattr(ControlGenes, "knowledge", recording)
    with pytest.warns(UserWarning, match="'drug X' name no gene"):
        fit(group_key="batch", method=method)
    names = tuple(np.unique(screen.obs["batch"]).tolist())
    assert set(asked) == {names} | {tuple(one for one in names if one != left_out) for left_out in names}


def test_a_file_is_read_in_blocks(
    fit: Fit, screen: AnnData, tiny_model: PretrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, name = load_predictor(fit(folder=tmp_path / "whole")), screen.var_names[20]
    options = {"model": tiny_model, "min_cells": 5, "min_genes": 1}
    expected = perturb(screen, tmp_path / "whole", [name], **options)  # type: ignore[arg-type]
    screen.write_h5ad(tmp_path / "cells.h5ad")
    blocks, sizes = MatchedCounts.blocks, []

    def small(self: MatchedCounts) -> Iterator[tuple[int, csr_matrix]]:
        for start, block in blocks(self, 10):
            sizes.append(block.shape[0])
            yield start, block

    monkeypatch.setattr(MatchedCounts, "blocks", small)
    folder = fit(adata=tmp_path / "cells.h5ad", folder=tmp_path / "blocks")
    found = perturb(tmp_path / "cells.h5ad", folder, [name], **options)  # type: ignore[arg-type]
    assert len(sizes) == 2 * 17 and max(sizes) == 10
    again = load_predictor(folder)
    np.testing.assert_array_equal(again.knowledge.states, whole.knowledge.states)
    np.testing.assert_allclose(again.train.change, whole.train.change, atol=1e-9)
    np.testing.assert_allclose(found.X, expected.X, atol=1e-6)
