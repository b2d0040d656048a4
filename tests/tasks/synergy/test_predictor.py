"""Answers say how new a row is; the folder gives the same answers, and refuses what was altered."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tasks.synergy.conftest import Screen
from xtrimogene.errors import CheckpointError, ConfigError
from xtrimogene.tasks.synergy.held_out import Tested as Answered
from xtrimogene.tasks.synergy.held_out import measure, summarize_held_out
from xtrimogene.tasks.synergy.learned import ResponseConfig
from xtrimogene.tasks.synergy.predictor import ResponsePredictor
from xtrimogene.tasks.synergy.predictor_folder import load_predictor, save_predictor
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
    """Return rows of each novelty: learned, then known pair, new pair, drug, drugs, line, and two at once."""
    pair, line = screen.rows.drugs[100], screen.rows.lines[100]
    rows = ResponseRows(
        drugs=np.array([[0, 2], pair[::-1], [1, 0], [0, 8], [8, 9], [2, 0], [0, 1], [8, 1], [8, 9]]),
        lines=np.array([0, line, 0, 0, 0, 8, 8, 8, 8]),
        target=np.full(9, np.nan, np.float32),
    )
    return rows, DrugSet((*screen.drugs.smiles, "CCO", "CCN")), np.vstack([screen.cells, screen.cells[:1]])


def test_how_new_a_row_is_and_what_was_measured_there(screen: Screen, predictor: ResponsePredictor) -> None:
    answers = predictor.predict(*asked(screen))
    assert answers.novelty.tolist() == [
        "measured",
        "known pair",
        "new pair",
        "new drug",
        "new drugs",
        "new cell line",
        "new pair, new cell line",
        "new drug, new cell line",
        "new drugs, new cell line",
    ]
    wanted = [predictor.held_out[way].scores["auroc"] for way in ("measurement", "pair", "drug", "drugs", "cell_line")]
    np.testing.assert_allclose(answers.held_out[1:6], wanted, rtol=1e-6)
    assert np.isnan(answers.held_out[[0, 6, 7, 8]]).all()
    assert ((answers.value >= 0) & (answers.value <= 1)).all() and (answers.spread >= 0).all()
    assert set(predictor.held_out) == {"measurement", "pair", "drug", "drugs", "cell_line", "tissue"}
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


def test_an_altered_folder_is_refused(predictor: ResponsePredictor, tmp_path: Path) -> None:
    folder = save_predictor(predictor, tmp_path / "kept")
    card = folder / "predictor.json"
    facts = json.loads(card.read_text())
    for change in ({"lines": []}, {"smiles": []}, {"config": {"width": 9}}, {"held_out": 3}):
        card.write_text(json.dumps(facts | change))
        with pytest.raises(CheckpointError, match="is no predictor of ours"):
            load_predictor(folder)


def test_too_little_to_learn_from_is_refused(screen: Screen) -> None:
    few = screen.rows.at(np.flatnonzero(screen.rows.lines < 3))
    with pytest.raises(ConfigError, match="3 cell lines; at least 4"):
        fit(screen, few, labels=True)
    with pytest.raises(ConfigError, match="all labels are the same"):
        fit(screen, replace(screen.rows, target=np.ones(224, np.float32)), labels=True)
    with pytest.raises(ConfigError, match="10 rows"):
        fit(screen, screen.rows.at(np.arange(0, 224, 23)), labels=True)


def test_metrics_rank_log_odds_as_they_are_and_calibrate_either_side_on_other_folds() -> None:
    """Log odds that are all too low: accuracy holds after a shift learned elsewhere, and AUROC needs none."""
    random = np.random.default_rng(0)
    target = random.integers(0, 2, 400).astype(np.float32)
    said = (2 * target - 11 + random.normal(size=400)).astype(np.float32)
    folds = np.arange(400) % 2
    tested = Answered(rows=np.arange(400), folds=folds, units=np.arange(400)[:, None], predicted=said)
    found = summarize_held_out(target, tested, tested, labels=True)
    assert found.scores == found.additive and found.scores["accuracy"] > 0.8
    assert found.scores["auroc"] == pytest.approx(found.interval.mean) and found.gain.mean == 0
    uneven = np.where(np.arange(400) // 2 % 10 == 0, folds, 1 - folds).astype(np.float32)  # 90 % and 10 % of ones
    blind = replace(tested, predicted=random.normal(size=400).astype(np.float32))
    apart = summarize_held_out(uneven, blind, blind, labels=True)
    assert apart.scores["accuracy"] < 0.2  # each fold is answered by the share of ones in the other
    hopeless = replace(tested, predicted=-said)
    assert summarize_held_out(target, hopeless, tested, labels=True).scores["auroc"] < 0.1


def test_a_way_is_tested_by_rows_as_new_as_it_says(screen: Screen) -> None:
    """Pairs on one line each: no held-out measurement has a known pair, and no line left out has one."""
    alone = np.array([8 * pair + pair % 8 for pair in range(28)])
    again = screen.rows.at(np.concatenate([alone, np.flatnonzero(screen.rows.drugs.max(axis=1) == 3)]))
    options = {"drugs": screen.drugs, "cells": screen.cells, "config": CONFIG, "labels": True, "num_folds": 3}
    assert measure(screen.rows.at(alone), left_out="measurement", **options) == {}
    some = measure(again, left_out="measurement", **options)["measurement"].num_rows
    assert some <= (again.drugs.max(axis=1) == 3).sum()
    both = measure(screen.rows, left_out="drug", **options)
    rows_of = {way: one.num_rows for way, one in both.items()}
    assert set(rows_of) == {"drug", "drugs"} and rows_of["drugs"] == (3 + 3 + 1) * 8  # folds of 3, 3 and 2 drugs
    assert rows_of["drug"] == (3 * 5 + 3 * 5 + 2 * 6) * 8


def test_a_screen_of_one_anchor_drug_is_learned(screen: Screen) -> None:
    rows = screen.rows.at(np.flatnonzero((screen.rows.drugs == 3).any(axis=1)))
    with pytest.warns(UserWarning, match="nothing could be measured with pairs left out"):  # each has a new drug
        found = fit(screen, rows, labels=True)
    assert set(found.held_out) == {"measurement", "drug", "cell_line", "tissue"}
    assert found.held_out["drug"].num_rows < len(rows)
    answers = found.predict(*asked(screen))
    assert np.isnan(answers.held_out[4]) and np.isfinite(answers.value).all()


def test_drugs_that_look_the_same_are_refused(screen: Screen) -> None:
    alike = DrugSet(tuple("C" * number for number in range(12, 20)))  # chains whose neighbourhoods are the same
    assert not alike.fingerprints.std(axis=0).any()
    with pytest.raises(ConfigError, match="same fingerprint"):
        fit(replace(screen, drugs=alike), screen.rows, labels=True)
