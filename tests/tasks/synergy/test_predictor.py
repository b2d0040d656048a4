"""Answers say how new a row is; the folder gives the same answers, and refuses what was altered."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tasks.synergy.conftest import Screen
from xtrimogene.errors import CheckpointError, ConfigError
from xtrimogene.tasks.synergy.learned import ResponseConfig
from xtrimogene.tasks.synergy.predictor import ResponsePredictor
from xtrimogene.tasks.synergy.predictor_folder import ARRAYS, CARD, load_predictor, save_predictor
from xtrimogene.tasks.synergy.response_table import DrugSet, ResponseRows

CONFIG = ResponseConfig(width=8, num_epochs=15, batch_size=64, learning_rate=0.02, num_networks=2)
MODEL = {"sha256": "0", "model": "tiny", "options": {"pool": "mean"}}


def fit(screen: Screen, rows: ResponseRows, labels: bool, config: ResponseConfig = CONFIG) -> ResponsePredictor:
    tissues = np.array(["lung", "skin", "colon", "lung", "skin", "colon", "lung", "skin"])
    return ResponsePredictor.fit(
        rows,
        screen.drugs,
        [f"line {place}" for place in range(8)],
        screen.cells,
        config,
        labels=labels,
        tissues=tissues,
        num_folds=3,
        card={"model": MODEL},
    )


@pytest.fixture(scope="module")
def predictor(screen: Screen) -> ResponsePredictor:
    kept = np.flatnonzero((np.sort(screen.rows.drugs, axis=1) != [0, 1]).any(axis=1) & (np.arange(224) != 100))
    return fit(screen, screen.rows.at(kept), labels=True)


def asked(screen: Screen) -> tuple[ResponseRows, DrugSet, np.ndarray]:
    """Return rows of each novelty: one that was learned, then known pair, new pair, drug, line, and two at once."""
    pair, line = screen.rows.drugs[100], screen.rows.lines[100]
    rows = ResponseRows(
        drugs=np.array([[0, 2], pair[::-1], [1, 0], [0, 8], [2, 0], [0, 1], [8, 1]]),
        lines=np.array([0, line, 0, 0, 8, 8, 8]),
        target=np.full(7, np.nan, np.float32),
    )
    return rows, DrugSet((*screen.drugs.smiles, "CCO")), np.vstack([screen.cells, screen.cells[:1]])


def test_how_new_a_row_is_and_what_was_measured_there(screen: Screen, predictor: ResponsePredictor) -> None:
    answers = predictor.predict(*asked(screen))
    assert answers.novelty.tolist() == [
        "measured",
        "known pair",
        "new pair",
        "new drug",
        "new cell line",
        "new pair, new cell line",
        "new drug, new cell line",
    ]
    wanted = [predictor.held_out[way].scores["auroc"] for way in ("measurement", "pair", "drug", "cell_line")]
    np.testing.assert_allclose(answers.held_out[1:5], wanted, rtol=1e-6)
    assert np.isnan(answers.held_out[[0, 5, 6]]).all()
    assert ((answers.value >= 0) & (answers.value <= 1)).all() and (answers.spread >= 0).all()
    assert set(predictor.held_out) == {"measurement", "pair", "drug", "cell_line", "tissue"}
    assert predictor.held_out["cell_line"].scores["auroc"] > predictor.held_out["cell_line"].additive["auroc"]


def test_single_drugs_with_a_known_answer(screen: Screen) -> None:
    """IC50 = what the drug holds of nitrogen x what the line is; additive effects cannot say it."""
    place = np.arange(64)
    nitrogen = np.array([one.count("N") for one in screen.drugs.smiles], np.float32)
    rows = ResponseRows(
        drugs=place[:, None] // 8, lines=place % 8, target=nitrogen[place // 8] * screen.cells[place % 8, 0]
    )
    found = fit(screen, rows, labels=False, config=replace(CONFIG, num_epochs=150, num_networks=1))
    assert set(found.held_out) == {"measurement", "drug", "cell_line", "tissue"}
    known = found.held_out["measurement"]
    assert known.scores["pearson"] > 0.8 > 0.3 > known.additive["pearson"] and known.gain.verdict == "beats"
    answers = found.predict(rows.at(np.arange(3)), screen.drugs, screen.cells)
    assert set(answers.novelty.tolist()) == {"measured"} and answers.value.std() >= 0


def test_probabilities_of_a_novelty_hold_on_its_held_out_rows(screen: Screen, predictor: ResponsePredictor) -> None:
    for one in predictor.held_out.values():
        assert one.slope >= 0 and np.isfinite(one.shift)
        assert one.interval.low <= one.interval.mean <= one.interval.high


def test_the_folder_gives_the_same_answers(screen: Screen, predictor: ResponsePredictor, tmp_path: Path) -> None:
    folder = save_predictor(predictor, tmp_path / "kept")
    read = load_predictor(folder)
    first, second = predictor.predict(*asked(screen)), read.predict(*asked(screen))
    for name in ("value", "spread", "held_out"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert read.held_out == predictor.held_out and read.smiles == predictor.smiles
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    with pytest.raises(CheckpointError, match="exists"):
        save_predictor(predictor, folder)


def test_an_altered_folder_is_refused(predictor: ResponsePredictor, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no predictor at"):
        load_predictor(tmp_path)
    folder = save_predictor(predictor, tmp_path / "kept")
    facts = json.loads((folder / CARD).read_text())
    for change in ({"format": "other"}, {"lines": []}, {"smiles": []}, {"config": {"width": 9}}, {"held_out": 3}):
        (folder / CARD).write_text(json.dumps(facts | change))
        with pytest.raises(CheckpointError):
            load_predictor(folder)
    (folder / CARD).write_text(json.dumps(facts))
    (folder / ARRAYS).write_bytes(b"\0" + (folder / ARRAYS).read_bytes()[1:])
    with pytest.raises(CheckpointError, match="not the file"):
        load_predictor(folder)


def test_too_little_to_learn_from_is_refused(screen: Screen) -> None:
    few = screen.rows.at(np.flatnonzero(screen.rows.lines < 3))
    with pytest.raises(ConfigError, match="3 cell lines; at least 4"):
        fit(screen, few, labels=True)
    with pytest.raises(ConfigError, match="all labels are the same"):
        fit(screen, replace(screen.rows, target=np.ones(224, np.float32)), labels=True)
    with pytest.raises(ConfigError, match="10 rows"):
        fit(screen, screen.rows.at(np.arange(0, 224, 23)), labels=True)
