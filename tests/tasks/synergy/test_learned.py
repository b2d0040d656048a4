"""A known answer is learned, by each view of a drug; baselines say what they should."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.tasks.synergy.conftest import SMILES, Screen
from xtrimogene.errors import ConfigError
from xtrimogene.tasks.synergy.baselines import Effects, boost_fingerprints, boost_one_hot
from xtrimogene.tasks.synergy.learned import Learned, ResponseConfig
from xtrimogene.tasks.synergy.response_table import DrugSet, ResponseRows

QUICK = ResponseConfig(width=16, num_epochs=60, batch_size=64, learning_rate=0.01, weight_decay=0.01)


@pytest.mark.parametrize("view", ["fingerprint", "graph", "both"])
def test_a_known_answer_is_learned_on_lines_not_seen(screen: Screen, view: str) -> None:
    config = replace(QUICK, drug_view=view, effects=False)
    seen = screen.rows.lines < 6
    train, test = screen.rows.at(np.flatnonzero(seen)), screen.rows.at(np.flatnonzero(~seen))
    learned = Learned.fit(train, screen.drugs, screen.cells, config, labels=True)
    said = learned.predict(test, screen.drugs, screen.cells)
    assert roc_auc_score(test.target, said) > 0.95
    may = np.array(["N" in one for one in SMILES])[test.drugs].all(axis=1)  # here the line decides
    assert roc_auc_score(test.target[may], said[may]) > 0.9
    without = np.zeros((8, 0), np.float32)
    blind = Learned.fit(train, screen.drugs, without, config, labels=True).predict(test, screen.drugs, without)
    assert roc_auc_score(test.target[may], blind[may]) == pytest.approx(0.5)


def test_the_order_of_drugs_the_batch_and_the_place_of_a_drug_say_nothing(screen: Screen) -> None:
    learned = Learned.fit(screen.rows, screen.drugs, screen.cells, replace(QUICK, num_epochs=3), labels=True)
    rows = screen.rows.at(np.arange(0, 200, 7))
    wanted = learned.predict(rows, screen.drugs, screen.cells)
    turned = ResponseRows(drugs=rows.drugs[:, ::-1].copy(), lines=rows.lines, target=rows.target)
    np.testing.assert_allclose(learned.predict(turned, screen.drugs, screen.cells), wanted, atol=1e-5)
    np.testing.assert_allclose(
        learned.predict(rows.at(np.array([3])), screen.drugs, screen.cells), wanted[[3]], atol=1e-5
    )
    more = DrugSet((*screen.drugs.smiles, "CCO"))
    cells = np.vstack([screen.cells, screen.cells[:1]])
    np.testing.assert_allclose(learned.predict(rows, more, cells), wanted, atol=1e-5)


def test_rows_are_answered_in_blocks(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = Learned.fit(screen.rows, screen.drugs, screen.cells, replace(QUICK, num_epochs=2), labels=True)
    wanted = learned.predict(screen.rows, screen.drugs, screen.cells)
    monkeypatch.setattr("xtrimogene.tasks.synergy.learned.BLOCK", 50)
    np.testing.assert_allclose(learned.predict(screen.rows, screen.drugs, screen.cells), wanted, atol=1e-5)


def test_a_seed_gives_one_answer_and_leaves_the_generator_alone(screen: Screen) -> None:
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    first, second, other = (
        Learned.fit(screen.rows, screen.drugs, screen.cells, replace(QUICK, num_epochs=2), labels=True, seed=seed)
        .predict(screen.rows, screen.drugs, screen.cells)
        .tolist()
        for seed in (1, 1, 2)
    )
    assert first == second != other and torch.equal(torch.rand(1), before)


def test_values_come_back_in_their_unit(screen: Screen) -> None:
    values = screen.as_values(slope=30, shift=-70)
    learned = Learned.fit(values, screen.drugs, screen.cells, QUICK, labels=False)
    said = learned.predict(values, screen.drugs, screen.cells)
    assert np.sqrt(np.mean((said - values.target) ** 2)) < 0.4 * values.target.std()
    assert said.mean() == pytest.approx(values.target.mean(), abs=1)


def test_single_drugs_are_rows_of_one(screen: Screen) -> None:
    place = np.arange(64)
    drugs, lines = place[:, None] // 8, place % 8
    effect = np.linspace(-2, 2, 8)
    rows = ResponseRows(drugs=drugs, lines=lines, target=(effect[drugs[:, 0]] + lines).astype(np.float32))
    learned = Learned.fit(rows, screen.drugs, screen.cells, QUICK, labels=False)
    said = learned.predict(rows, screen.drugs, screen.cells)
    assert np.corrcoef(said, rows.target)[0, 1] > 0.95


def test_effects_by_hand() -> None:
    """Values that are sums of drug, line and pair effects; what is new has none."""
    random = np.random.default_rng(0)
    drugs, lines = random.integers(0, 5, (4000, 2)), random.integers(0, 4, 4000)
    drugs = drugs[drugs[:, 0] != drugs[:, 1]]
    lines = lines[: len(drugs)]
    additive = drugs.sum(axis=1) + 10.0 * lines
    together = 5.0 * (np.sort(drugs, axis=1) == [0, 1]).all(axis=1)
    rows = ResponseRows(drugs=drugs, lines=lines, target=(additive + together).astype(np.float32))
    sizes = {"num_drugs": 7, "num_lines": 6, "labels": False}
    plain, paired = Effects.fit(rows, **sizes), Effects.fit(rows, **sizes, combined=True)
    assert np.abs(paired.predict(rows) - rows.target).max() < 0.1 < np.abs(plain.predict(rows) - rows.target).max()
    asked = ResponseRows(
        drugs=np.array([[1, 0], [0, 1], [5, 6]]), lines=np.array([2, 2, 5]), target=np.zeros(3, np.float32)
    )
    said = paired.predict(asked)
    assert said[0] == said[1] == pytest.approx(26, abs=0.1) and said[2] == pytest.approx(paired.bias)


def test_effects_of_rows_of_one_label_say_how_many_there_are(screen: Screen) -> None:
    """A fold of a small table may hold no other."""
    rows = screen.rows.at(np.flatnonzero(screen.rows.target == 0)[:9])
    said = Effects.fit(rows, num_drugs=8, num_lines=8, labels=True, combined=True).predict(screen.rows)
    np.testing.assert_allclose(said, np.log(0.5 / 9.5), rtol=1e-6)


@pytest.mark.parametrize("labels", [True, False])
def test_boosting_learns(screen: Screen, labels: bool) -> None:
    rows = screen.rows if labels else screen.as_values()
    one_hot = boost_one_hot(rows, rows, num_drugs=8, num_lines=8, labels=labels, seed=0)
    prints = boost_fingerprints(rows, rows, screen.drugs.fingerprints, screen.cells, labels=labels, seed=0)
    assert min(roc_auc_score(screen.rows.target, said) for said in (one_hot, prints)) > 0.95


@pytest.mark.parametrize(("name", "value"), [("width", 0), ("dropout", 1.0), ("num_networks", 0)])
def test_a_setting_that_cannot_be_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        ResponseConfig(**{name: value})


def test_a_view_that_is_none_is_refused() -> None:
    config = ResponseConfig()
    object.__setattr__(config, "drug_view", "morgan")  # as from a caller whose types nobody checks
    with pytest.raises(ConfigError, match="drug_view='morgan' is none of fingerprint, graph, both"):
        config.__post_init__()
