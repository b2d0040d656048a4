"""`fit_synergy`, `synergy`, `fit_response`, `response`: from a user's table, and every fault named."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.errors import (
    CheckpointError,
    ConfigError,
    CountsError,
    DrugError,
    FieldError,
    FileFormatError,
    XTrimoGeneError,
)
from xtrimogene.tasks.synergy.learned import ResponseConfig
from xtrimogene.tasks.synergy.predictor import ResponsePredictor
from xtrimogene.tl.drug_tables import read_table
from xtrimogene.tl.response import fit_response, response
from xtrimogene.tl.synergy import fit_synergy, synergy

DRUGS = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "caffeine": "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "metformin": "CN(C)C(=N)NC(=N)N",
    "fluorouracil": "C1=C(C(=O)NC(=O)N1)F",
    "glycerol": "OCC(O)CO",
}
CONFIG = ResponseConfig(width=8, num_epochs=4, batch_size=64, num_networks=2)


def cell_lines(model: PretrainedModel, number: int = 6) -> AnnData:
    """Return bulk profiles in TPM: no whole numbers, every gene above zero."""
    random = np.random.default_rng(0)
    tpm = random.gamma(2.0, 50.0, (number, 400)).astype(np.float32)
    tissues = ["lung", "skin", "colon"]
    obs = pd.DataFrame(
        {"tissue": [tissues[line % 3] for line in range(number)]}, index=[f"L{line}" for line in range(number)]
    )
    return AnnData(tpm, obs=obs, var=pd.DataFrame(index=model.genes.symbols))


def pairs(number: int = 6) -> pd.DataFrame:
    rows = [(*pair, f"L{line}") for pair in combinations(DRUGS, 2) for line in range(number)]
    table = pd.DataFrame(rows, columns=["drug1", "drug2", "cell_line"])
    table["label"] = np.random.default_rng(0).integers(0, 2, len(table))
    table["score"] = np.sin(np.arange(len(table))) * 20
    return table


@pytest.fixture(scope="module")
def lines(tiny_model: PretrainedModel) -> AnnData:
    return cell_lines(tiny_model)


@pytest.fixture(scope="module")
def fitted(tiny_model: PretrainedModel, lines: AnnData) -> ResponsePredictor:
    return fit(tiny_model, lines, pairs())


def fit(model: PretrainedModel, lines: AnnData, table: pd.DataFrame, **options: object) -> ResponsePredictor:
    given = {"drugs": DRUGS, "label_key": "label", "model": model, "config": CONFIG, "num_folds": 2} | options
    return fit_synergy(table, lines, **given)


def test_a_table_in_and_probabilities_out(
    tiny_model: PretrainedModel, lines: AnnData, fitted: ResponsePredictor, tmp_path: Path
) -> None:
    before = lines.copy()
    kept = fit(tiny_model, lines, pairs(), folder=tmp_path / "synergy", tissue_key="tissue")
    assert set(kept.held_out) == {"measurement", "pair", "drug", "drugs", "cell_line", "tissue"}
    assert set(fitted.held_out) == {"measurement", "pair", "drug", "drugs", "cell_line"}
    asked = pd.DataFrame(
        {
            "drug1": ["aspirin", "glycerol", "ethanol"],
            "drug2": ["caffeine", "metformin", "aspirin"],
            "cell_line": ["L0", "L5", "L1"],
            "note": ["a", "b", "c"],
        },
        index=[7, 8, 9],
    )
    known = DRUGS | {"ethanol": "CCO"}
    found = synergy(asked, lines, tmp_path / "synergy", drugs=known, model=tiny_model)
    assert list(found.columns) == [*asked.columns, "probability", "spread", "novelty", "held_out_auroc"]
    assert found["novelty"].tolist() == ["measured", "measured", "new drug"] and list(found.index) == [7, 8, 9]
    assert found["probability"].between(0, 1).all() and (found["spread"][:2] > 0).all()
    assert np.isnan(found["held_out_auroc"].iloc[0])
    assert found["held_out_auroc"].iloc[2] == pytest.approx(kept.held_out["drug"].scores["auroc"])
    turned = asked.rename(columns={"drug1": "drug2", "drug2": "drug1"})
    again = synergy(turned, lines, kept, drugs=known, model=tiny_model)
    np.testing.assert_allclose(again["probability"], found["probability"], atol=1e-6)
    pd.testing.assert_frame_equal(lines.obs, before.obs)
    assert "drug1" in asked and not lines.obsm


def test_smiles_in_the_table_and_from_a_file_are_the_same(
    tiny_model: PretrainedModel, lines: AnnData, fitted: ResponsePredictor, tmp_path: Path
) -> None:
    table = pairs().assign(drug1=lambda rows: rows["drug1"].map(DRUGS), drug2=lambda rows: rows["drug2"].map(DRUGS))
    table.to_csv(tmp_path / "pairs.csv", index=False)
    by_smiles = fit(tiny_model, lines, tmp_path / "pairs.csv", drugs=None)
    by_name = synergy(pairs(), lines, fitted, drugs=DRUGS, model=tiny_model)
    found = synergy(tmp_path / "pairs.csv", lines, by_smiles, model=tiny_model)
    np.testing.assert_array_equal(found["probability"], by_name["probability"])


def test_a_new_line_is_named_new(tiny_model: PretrainedModel, fitted: ResponsePredictor) -> None:
    more = cell_lines(tiny_model, 8)
    asked = pairs(1).assign(cell_line="L7")
    found = synergy(asked, more, fitted, drugs=DRUGS, model=tiny_model)
    assert set(found["novelty"]) == {"new cell line"}
    assert found["held_out_auroc"].iloc[0] == pytest.approx(fitted.held_out["cell_line"].scores["auroc"])
    alone = synergy(asked, more["L7"].copy(), fitted, drugs=DRUGS, model=tiny_model)
    np.testing.assert_allclose(alone["probability"], found["probability"], atol=1e-6)


def test_scores_come_with_how_far_they_were_off(tiny_model: PretrainedModel, lines: AnnData) -> None:
    kept = fit(tiny_model, lines, pairs(), label_key=None, score_key="score")
    found = synergy(pairs().drop(columns="score"), lines, kept, drugs=DRUGS, model=tiny_model)
    assert list(found.columns[-5:]) == ["score", "spread", "novelty", "held_out_pearson", "error_90"]


def test_single_drugs(tiny_model: PretrainedModel, lines: AnnData, tmp_path: Path) -> None:
    """IC50 = a drug's effect + a line's, a known answer."""
    rows = [(drug, f"L{line}") for drug in DRUGS for line in range(6)]
    table = pd.DataFrame(rows, columns=["drug", "cell_line"])
    effect = {drug: number - 2.5 for number, drug in enumerate(DRUGS)}
    table["ic50"] = table["drug"].map(effect) + table["cell_line"].str[1].astype(float) / 2
    options = {"drugs": DRUGS, "value_key": "ic50", "model": tiny_model, "config": CONFIG, "num_folds": 3}
    kept = fit_response(table, lines, tmp_path / "ic50", **options)
    assert set(kept.held_out) == {"measurement", "drug", "cell_line"}
    assert kept.held_out["measurement"].scores["pearson"] > 0.8
    asked = pd.concat([table, pd.DataFrame({"drug": ["ethanol"], "cell_line": ["L0"]})], ignore_index=True)
    found = response(asked, lines, tmp_path / "ic50", drugs=DRUGS | {"ethanol": "CCO"}, model=tiny_model)
    assert found["novelty"].tolist() == ["measured"] * 36 + ["new drug"]
    assert np.corrcoef(found["predicted"][:36], table["ic50"])[0, 1] > 0.9
    with pytest.raises(ConfigError, match="fit_response, for xtrimogene.tl.response"):
        synergy(pairs(), lines, kept, drugs=DRUGS, model=tiny_model)


def changed(column: str, value: object) -> pd.DataFrame:
    table = pairs().astype({"label": object})
    table.loc[4, column] = value
    return table


@pytest.mark.parametrize(
    ("table", "error", "says"),
    [
        (changed("drug1", "nonsense"), DrugError, r"'nonsense' \(row 4\) is not in drugs="),
        (changed("drug2", "aspirin"), DrugError, "row 4 has the same drug twice, aspirin and aspirin"),
        (changed("cell_line", "HELA"), FieldError, r"cell line 'HELA' \(row 4\) is not among the 6"),
        (changed("label", 2), FieldError, "column 'label' holds 2 in row 4; a label 0 or 1"),
        (changed("label", "yes"), FieldError, "column 'label' holds 'yes' in row 4"),
        (changed("label", None), FieldError, "column 'label' has no value in row 4"),
        (changed("drug1", None), FieldError, "column 'drug1' has no value in row 4"),
        (pairs().drop(columns="drug2"), FieldError, "no column 'drug2'; it has drug1, cell_line, label, score"),
        (pairs()[:0], FieldError, "no rows"),
        (pairs().assign(label=1), ConfigError, "all labels are the same"),
    ],
)
def test_a_fault_of_the_table_is_named(
    table: pd.DataFrame, error: type[XTrimoGeneError], says: str, tiny_model: PretrainedModel, lines: AnnData
) -> None:
    with pytest.raises(error, match=says):
        fit(tiny_model, lines, table)


def test_other_faults_are_named(
    tiny_model: PretrainedModel, lines: AnnData, fitted: ResponsePredictor, tmp_path: Path
) -> None:
    with pytest.raises(DrugError, match=r"'CCC\(' \(row 0, aspirin\) is no molecule"):
        fit(tiny_model, lines, pairs(), drugs=DRUGS | {"aspirin": "CCC("})
    with pytest.raises(DrugError, match=r"'aspirin' \(row 0\) is no molecule"):
        fit(tiny_model, lines, pairs(), drugs=None)
    with pytest.raises(DrugError, match="row 0 has the same drug twice, aspirin and paracetamol"):
        fit(tiny_model, lines, pairs(), drugs=DRUGS | {"paracetamol": "O=C(C)Oc1ccccc1C(O)=O"})
    with pytest.raises(ConfigError, match="one of the two"):
        fit(tiny_model, lines, pairs(), score_key="score")
    with pytest.raises(FieldError, match="finite number"):
        fit(tiny_model, lines, changed("score", np.inf), label_key=None, score_key="score")
    with pytest.raises(ConfigError, match="num_folds=1"):
        fit(tiny_model, lines, pairs(), num_folds=1)
    with pytest.raises(FieldError, match="no column 'organ'"):
        fit(tiny_model, lines, pairs(), tissue_key="organ")
    with pytest.raises(FileFormatError, match="no table at"):
        fit(tiny_model, lines, tmp_path / "none.csv")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("here")
    with pytest.raises(CheckpointError, match="exists"):
        fit(tiny_model, lines, pairs(), folder=tmp_path / "full")
    negative = lines.copy()
    negative.X[0, 0] = -1
    with pytest.raises(CountsError, match="negative|below zero|-1"):
        fit(tiny_model, negative, pairs())
    with pytest.raises(CheckpointError, match="fitted on vectors of 'tiny'"):
        synergy(pairs(), lines, fitted, drugs=DRUGS, model="demo")


def test_a_line_given_twice_is_refused(tiny_model: PretrainedModel, lines: AnnData) -> None:
    twice = lines.copy()
    twice.obs_names = ["L0", "L0", "L1", "L2", "L3", "L4"]
    with pytest.raises(FieldError, match="'L0' is in cell_lines more than once"):
        fit(tiny_model, twice, pairs(5))


def test_a_gene_order_of_its_own_changes_nothing(
    tiny_model: PretrainedModel, lines: AnnData, fitted: ResponsePredictor, make_cells: Callable[..., AnnData]
) -> None:
    turned = lines[:, ::-1].copy()
    wanted = synergy(pairs(), lines, fitted, drugs=DRUGS, model=tiny_model)["probability"]
    found = synergy(pairs(), turned, fitted, drugs=DRUGS, model=tiny_model)["probability"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_column_of_the_user_is_not_replaced(
    tiny_model: PretrainedModel, lines: AnnData, fitted: ResponsePredictor
) -> None:
    for name in ("probability", "spread", "novelty", "held_out_auroc"):
        with pytest.raises(FieldError, match=f"has a column '{name}', which the answer would replace"):
            synergy(pairs().assign(**{name: 1}), lines, fitted, drugs=DRUGS, model=tiny_model)


def test_a_salt_of_a_drug_is_that_drug(tiny_model: PretrainedModel, lines: AnnData, fitted: ResponsePredictor) -> None:
    salt = DRUGS | {"aspirin": "CC(=O)Oc1ccccc1C(=O)[O-].[Na+]"}
    wanted = synergy(pairs(), lines, fitted, drugs=DRUGS, model=tiny_model)
    found = synergy(pairs(), lines, fitted, drugs=salt, model=tiny_model)
    pd.testing.assert_frame_equal(found, wanted)
    both = salt | {"aspirin (acid)": DRUGS["aspirin"]}
    named = pairs()
    named.loc[::2, "drug1"] = named["drug1"][::2].replace("aspirin", "aspirin (acid)")
    kept = fit(tiny_model, lines, named, drugs=both)
    assert len(kept.smiles) == 6 and kept.held_out["drug"] == fitted.held_out["drug"]
    with pytest.raises(DrugError, match="salts and stereoisomers count as one"):
        fit(tiny_model, lines, named.assign(drug1="aspirin", drug2="aspirin (acid)"), drugs=both)


def test_not_two_columns_of_drugs() -> None:
    for keys in (("drug1",), ("drug1", "drug2", "drug2")):
        with pytest.raises(ConfigError, match="the names of 2 columns are needed"):
            read_table(pairs(), drug_keys=keys, num_drugs=2, cell_line_key="cell_line", drugs=DRUGS)


def test_a_known_name_with_another_profile_is_told(
    tiny_model: PretrainedModel, lines: AnnData, fitted: ResponsePredictor
) -> None:
    turned = lines.copy()
    turned.X[0] = turned.X[0, ::-1]
    with pytest.warns(UserWarning, match="cell line 'L0': another profile"):
        synergy(pairs(), turned, fitted, drugs=DRUGS, model=tiny_model)
