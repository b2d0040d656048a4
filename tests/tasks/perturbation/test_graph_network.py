from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from xtrimogene.tasks.perturbation.baselines import training_mean
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.graph_network import GraphConfig, GraphInputs, GraphPredictor, new_network
from xtrimogene.tasks.perturbation.splits import unseen_contexts, unseen_perturbations

NAMES = [f"g{number}" for number in range(15)]


@pytest.fixture(scope="session")
def inputs() -> GraphInputs:
    random = np.random.default_rng(0)
    return GraphInputs(
        gene_states=random.normal(size=(30, 4)),
        parts=tuple(NAMES),
        part_states=random.normal(size=(15, 4)),
        gene_of_part={"g0": 3},
    )


def test_untrained_is_the_training_mean(make_effects: Callable[..., Effects], inputs: GraphInputs) -> None:
    train = make_effects(NAMES[:4])
    network = new_network(inputs, 8, 0)
    predictor = GraphPredictor(network=network, inputs=inputs, train=train, num_epochs=0)
    names = ["g5", "g0+g1"]
    np.testing.assert_allclose(predictor.predict(names, train.control[[0, 0]]), training_mean(train, names))


def test_learns_what_states_tell_and_nothing_from_noise(
    make_effects: Callable[..., Effects], inputs: GraphInputs
) -> None:
    train = make_effects(NAMES)
    told = replace(train, change=inputs.part_states @ inputs.gene_states.T + 0.1 * train.change)
    split = unseen_perturbations(told, num_folds=5)[0]
    names = told.perturbation[split.test].tolist()
    control = np.repeat(told.control, len(names), axis=0)
    config = GraphConfig(learning_rate=1e-2, max_epochs=150)
    found = {}
    for name, effects in (("told", told), ("noise", train)):
        known = effects.rows(split.train)
        fitted = GraphPredictor.fit(known, inputs, unseen_perturbations(known, num_folds=3), config)
        found[name] = [
            ((one - effects.change[split.test]) ** 2).mean()
            for one in (fitted.predict(names, control), training_mean(known, names))
        ]
    assert found["told"][0] < 0.7 * found["told"][1]
    assert found["noise"][0] < 1.1 * found["noise"][1]


def test_combinations_targets_and_contexts_are_read(make_effects: Callable[..., Effects], inputs: GraphInputs) -> None:
    train = make_effects(NAMES[:4] * 2, [0] * 4 + [1] * 4)
    fitted = GraphPredictor.fit(train, inputs, unseen_contexts(train), GraphConfig(max_epochs=1))
    with torch.no_grad():
        for parameter in fitted.network.decoder[-1].parameters():
            parameter += 0.5
    control = train.control[[0, 0, 1]]
    both, turned, elsewhere = fitted.predict(["g0+g5", "g5+g0", "g0+g5"], control)
    np.testing.assert_array_equal(both, turned)
    assert not np.allclose(both, elsewhere)
    assert inputs.is_target(["g0", "g1"]).nonzero().tolist() == [[0, 3]]
    assert inputs.members(["g2+g1"]).nonzero()[:, 1].tolist() == [1, 2]
    alone = fitted.predict(["g0+g5"], control[:1])[0]
    np.testing.assert_allclose(alone, both, atol=1e-5)


def test_same_seed_same_network(make_effects: Callable[..., Effects], inputs: GraphInputs) -> None:
    train, config = make_effects(NAMES[:6]), GraphConfig(max_epochs=3)
    splits, before = unseen_perturbations(train, num_folds=3), torch.random.get_rng_state()
    one, two = (GraphPredictor.fit(train, inputs, splits, config, seed=4) for _ in range(2))
    np.testing.assert_array_equal(one.predict(["g9"], train.control), two.predict(["g9"], train.control))
    assert torch.equal(before, torch.random.get_rng_state())
