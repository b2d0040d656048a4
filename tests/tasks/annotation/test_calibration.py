import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from xtrimogene.tasks.annotation.calibration import fit_temperature, label_sets


def draw(num_cells: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels drawn from the probabilities that they give: the right temperature is 1."""
    random = np.random.default_rng(seed)
    scores = 2 * random.normal(size=(num_cells, 4))
    cumulative = softmax(scores, axis=1).cumsum(axis=1)
    return scores, (random.random((num_cells, 1)) > cumulative).sum(axis=1)


@pytest.mark.parametrize("factor", [0.2, 1.0, 7.0])
def test_a_temperature_undoes_overconfidence(factor: float) -> None:
    scores, label = draw(20_000, seed=0)
    assert fit_temperature(factor * scores, label) == pytest.approx(factor, rel=0.05)


def test_no_temperature_is_better() -> None:
    scores, label = draw(5_000, seed=1)
    fitted = fit_temperature(scores, label)

    def loss(temperature: float) -> float:
        return -log_softmax(scores / temperature, axis=1)[np.arange(5_000), label].mean()

    assert all(loss(fitted) <= loss(fitted * factor) for factor in (0.8, 0.95, 1.05, 1.2))


@pytest.mark.parametrize("num_cells", [2, 20, 200])
def test_that_all_are_right_makes_nothing_certain(num_cells: int) -> None:
    """One in N + 2 is taken to be wrong, whatever the scale of the scores."""
    label = np.resize([0, 1], num_cells)
    for size in (0.5, 9.0):
        scores = np.where(label[:, None] == [0, 1], size, 0.0)
        probable = softmax(scores / fit_temperature(scores, label), axis=1).max(axis=1)
        assert probable == pytest.approx((num_cells + 1) / (num_cells + 2), abs=1e-4)


def test_a_label_that_was_not_learned_takes_no_part() -> None:
    scores, label = draw(200, seed=2)
    more = np.column_stack([scores, np.full(200, -np.inf)])
    assert fit_temperature(more, label) == pytest.approx(fit_temperature(scores, label))


@pytest.mark.parametrize("error_rate", [0.05, 0.1, 0.3])
def test_sets_miss_the_right_label_as_seldom_as_asked(error_rate: float) -> None:
    """Over draws of held-out cells the share is at most the rate, and less where the best label alone is below it."""
    missed = []
    for seed in range(300):
        scores, label = draw(240, seed)
        probabilities = softmax(scores, axis=1)
        held_out, asked = np.arange(40), np.arange(40, 240)
        sets = label_sets(probabilities[asked], probabilities[held_out, label[held_out]], error_rate)
        missed.append(1 - sets[np.arange(200), label[asked]].mean())
    assert 0.85 * error_rate - 1 / 41 < np.mean(missed) < error_rate + 0.01


def test_the_best_label_is_always_possible_and_equals_are_equal() -> None:
    right = np.full(99, 0.9)
    assert label_sets(np.array([[0.6, 0.4], [0.9 - 1e-13, 0.1]]), right, 0.1).tolist() == [[True, False], [True, False]]
    assert label_sets(np.array([[0.45, 0.45, 0.1]]), right, 0.1).tolist() == [[True, True, False]]


def test_too_few_held_out_cells_exclude_nothing() -> None:
    assert label_sets(np.array([[0.99, 0.01]]), np.full(8, 0.9), 0.1).all()
    assert label_sets(np.array([[0.99, 0.01]]), np.full(9, 0.9), 0.1).tolist() == [[True, False]]


@settings(max_examples=20)
@given(st.integers(0, 99), st.floats(0.01, 0.5), st.floats(0.01, 0.5))
def test_a_lower_error_rate_only_adds_labels(seed: int, one: float, other: float) -> None:
    scores, label = draw(60, seed)
    probabilities = softmax(scores, axis=1)
    right = probabilities[np.arange(60), label]
    few, many = (label_sets(probabilities, right, rate) for rate in sorted((one, other), reverse=True))
    assert (many | ~few).all()
