"""Combinations, contexts and unseen genes, on effects with a known answer."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from xtrimogene.tasks.perturbation.baselines import additive, own_mean, training_mean
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.part_features import PartFeatures
from xtrimogene.tasks.perturbation.predictor import choose_linear, inner_splits, linear_predictor, what_is_asked
from xtrimogene.tasks.perturbation.simulation import simulate_pairs
from xtrimogene.tasks.perturbation.splits import unseen_combinations, unseen_perturbations

NONE = PartFeatures(parts=(), sources={})


def errors(num_seen: int, interaction: float, seed: int = 0) -> tuple[float, float, float]:
    """Return the mean squared error of the predictor, of the sum of the parts and of the training mean."""
    effects, truth, features = simulate_pairs(num_parts=10 if num_seen else 16, interaction=interaction, seed=seed)
    split = unseen_combinations(effects, num_seen=num_seen, seed=seed)
    train, test = effects.rows(split.train), effects.rows(split.test)
    names = test.perturbation.tolist()
    asked = "combination" if num_seen == 2 else "perturbation"
    choices = choose_linear(train, features, {asked: inner_splits(train, seed)[asked]})
    ours = linear_predictor(train, features, choices).predict(names, test.control[test.context])
    found = (ours, additive(train, names), training_mean(train, names))
    return tuple(float(((one - truth[split.test]) ** 2).mean()) for one in found)  # type: ignore[return-value]


@pytest.mark.parametrize("num_seen", [0, 1, 2])
@pytest.mark.parametrize("interaction", [0.0, 0.5])
def test_unseen_pairs_are_predicted_better_than_by_adding_up(num_seen: int, interaction: float) -> None:
    ours, added, mean = errors(num_seen, interaction)
    assert ours < added and ours < mean


def test_parts_that_add_up_are_added_up() -> None:
    ours, added, mean = errors(2, 0.0)
    assert ours < 0.1 * mean and added < 0.2 * mean


def test_no_gene_falls_below_no_expression(make_effects: Callable[..., Effects]) -> None:
    train = make_effects(["A", "B"])
    predictor = linear_predictor(replace(train, change=train.change - 5), NONE, {})
    control = np.full((1, 30), 0.5)
    assert predictor.predict(["A"], control).min() == -0.5


def test_what_was_measured_is_taken_as_it_is_where_nothing_could_be_held_out(
    make_effects: Callable[..., Effects],
) -> None:
    train = make_effects(["A", "B", "C"])
    train = replace(train, control=train.control + 10)
    predictor, control = linear_predictor(train, NONE, {}), train.control[[0, 0, 0]]
    names = ["A", "A+B", "A+D"]
    assert what_is_asked(train, names).tolist() == ["context", "combination", "perturbation"]
    expected = [own_mean(train, ["A"])[0], additive(train, ["A+B"])[0], train.change[0] + train.change.mean(axis=0)]
    np.testing.assert_allclose(predictor.predict(names, control), expected)


def test_a_prediction_depends_on_no_other(make_effects: Callable[..., Effects]) -> None:
    effects, _, features = simulate_pairs(num_parts=6, seed=1)
    predictor = linear_predictor(effects, features, choose_linear(effects, features, inner_splits(effects, 0)))
    names = ["gene00", "new", "gene01+new", "gene00+gene01"]
    control = np.repeat(effects.control, 4, axis=0)
    together = predictor.predict(names, control)
    alone = [predictor.predict([name], control[:1])[0] for name in names]
    np.testing.assert_allclose(together, alone, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_useless_features_do_little_harm(seed: int) -> None:
    effects, truth, features = simulate_pairs(num_parts=20, seed=seed)
    single = np.flatnonzero(["+" not in name for name in effects.perturbation])
    vectors = np.random.default_rng(seed).normal(size=(20, 8))
    blind = PartFeatures(parts=features.parts, sources={"states": vectors / np.linalg.norm(vectors, axis=1)[:, None]})
    split = unseen_perturbations(effects.rows(single), seed=seed)[0]
    train, names = effects.rows(single[split.train]), effects.perturbation[single[split.test]].tolist()
    ours = linear_predictor(train, blind, choose_linear(train, blind, inner_splits(train, 0)))
    predicted = ours.predict(names, np.repeat(train.control, len(names), axis=0))
    errors = [((one - truth[single[split.test]]) ** 2).mean() for one in (predicted, training_mean(train, names))]
    assert errors[0] < 1.05 * errors[1]
