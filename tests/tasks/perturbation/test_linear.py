from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from xtrimogene.tasks.perturbation.baselines import training_mean
from xtrimogene.tasks.perturbation.choice import choose
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.linear import Kernel, KernelRidge, candidate_kernels, likeness, quiet
from xtrimogene.tasks.perturbation.part_features import PartFeatures
from xtrimogene.tasks.perturbation.splits import unseen_perturbations
from xtrimogene.tasks.unit_rows import unit_rows

KERNEL = Kernel(weights={"own": 0.5, "states": 0.5}, shared=0.5, pairs=0.3, near=0.5)


@pytest.fixture
def features() -> PartFeatures:
    return PartFeatures(
        parts=("A", "B", "C"), sources={"states": unit_rows(np.random.default_rng(1).normal(size=(3, 4)))}
    )


def test_infinitely_strong_is_the_training_mean(make_effects: Callable[..., Effects], features: PartFeatures) -> None:
    train, names = make_effects(["A", "B", "C", "A+B"], [0, 0, 1, 1]), ["A", "D", "A+C"]
    ridge = KernelRidge.fit(train, features, KERNEL, np.inf)
    np.testing.assert_array_equal(ridge.predict(names, train.control[[0, 0, 1]]), training_mean(train, names))


def test_solves_the_ridge_equations(make_effects: Callable[..., Effects], features: PartFeatures) -> None:
    train = replace(make_effects(["A", "B", "C", "A+B"], [0, 0, 1, 1]), num_cells=np.array([10, 20, 40, 80]))
    names = train.perturbation.tolist()
    vectors = np.zeros((4, 4))
    for row, own in enumerate(([0], [1], [2], [0, 1])):
        vectors[row] = features.sources["states"][own].sum(axis=0)
    common = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0], [1, 1, 0, 2]])
    alike = 0.5 + 0.5 * common + 0.5 * vectors @ vectors.T + 0.3 * 2 * np.diag([0, 0, 0, 1])
    near = likeness(train.control, train.control)
    gram = alike * (0.5 + 0.5 * near)[np.ix_(train.context, train.context)]
    left = train.change - training_mean(train, names)
    noise = np.diag(train.num_cells.mean() / train.num_cells)
    expected = training_mean(train, names) + gram @ np.linalg.solve(gram + 2 * noise, left)
    ridge = KernelRidge.fit(train, features, KERNEL, 2.0)
    np.testing.assert_allclose(ridge.predict(names, train.control[train.context]), expected)


def test_likeness_is_one_for_itself_and_falls_with_distance() -> None:
    contexts = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]])
    alike = likeness(contexts, contexts)
    assert (np.diag(alike) == 1).all() and alike[0, 1] > alike[0, 2] > 0
    assert alike[0, 2] == pytest.approx(np.exp(-25 / (2 * 16)))  # squared distances 1, 25, 16


def test_small_changes_are_quieted() -> None:
    change, noise = np.array([[2.0, 0.1, 0.0]]), np.array([[1.0, 1.0, 0.0]])
    np.testing.assert_allclose(quiet(change, noise, 1.0), [[8 / 5, 0.001 / 1.01, 0]])
    assert quiet(change, noise, 0.0) is change


def test_noise_of_the_weighted_sum_is_known(make_effects: Callable[..., Effects]) -> None:
    """Control cells are shared, so their noise does not average out: 1/2 x 1/50 from cells, 1/50 from controls."""
    train = make_effects(["A", "B", "C", "D"])
    ridge = KernelRidge.fit(train, PartFeatures(parts=(), sources={}), Kernel(weights={"own": 1.0}), np.inf, 1.0)
    mean = train.change.mean(axis=0)
    expected = mean * mean**2 / (mean**2 + (1 / 4) / 50 + 1 / 50)
    np.testing.assert_allclose(ridge.predict(["E"], train.control)[0], expected)


def test_strength_is_chosen_by_what_it_gains(make_effects: Callable[..., Effects]) -> None:
    random = np.random.default_rng(0)
    names = [f"g{number}" for number in range(24)]
    vectors = unit_rows(random.normal(size=(24, 3)))
    train = make_effects(names, num_genes=60)
    told = replace(train, change=2 * vectors @ random.normal(size=(3, 60)) + 0.1 * train.change)
    features = PartFeatures(parts=tuple(names), sources={"states": vectors})
    kernels = candidate_kernels(["states"], many_contexts=False, combinations=False, seen=False)
    splits = unseen_perturbations(train, num_folds=6)
    useful, useless = (choose(one, features, kernels, splits) for one in (told, train))
    assert useful.strength < 1 and useful.error < 0.2 * useful.error_of_mean and useful.num_held_out == 24
    assert useless.error <= useless.error_of_mean


def test_more_can_be_told_apart_in_more_data() -> None:
    few = candidate_kernels(["states"], many_contexts=False, combinations=False, seen=False)
    many = candidate_kernels(["states", "graph"], many_contexts=True, combinations=True, seen=True)
    assert len(few) == 1 and len(many) > 20 and len({str(kernel) for kernel in many}) == len(many)
