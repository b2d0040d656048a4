import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xtrimogene.protein.scaling_laws.quasi_newton import CHUNK, minimize_many


def rosenbrock(x: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = x.T
    value = 1 + (1 - a) ** 2 + 100 * (b - a**2) ** 2
    return value, np.stack([-2 * (1 - a) - 400 * a * (b - a**2), 200 * (b - a**2)], 1)


def test_every_start_finds_the_valley_s_end() -> None:
    starts = np.random.default_rng(0).uniform(-3, 3, (CHUNK + 10, 2))
    ends, values = minimize_many(rosenbrock, starts, tolerance=1e-14)
    np.testing.assert_allclose(ends, 1, atol=1e-4)
    np.testing.assert_allclose(values, 1, atol=1e-8)
    assert (starts != 1).all()  # what was given is left alone


def test_the_function_is_told_which_start_a_point_came_from() -> None:
    targets = np.random.default_rng(0).permutation(CHUNK + 30) / 100  # some within the first step, some beyond it

    def bowl(x: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = x - targets[which, None]
        return 1 + (away**2).sum(1), 2 * away

    ends, _ = minimize_many(bowl, np.zeros((len(targets), 1)))
    np.testing.assert_allclose(ends[:, 0], targets, atol=1e-5)


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=5), st.integers(0, 100))
@example([4.125, 38.0], 4)  # one start lies on a ridge, where each step curves downwards
def test_no_descent_ends_above_its_start(scales: list[float], seed: int) -> None:
    scale = np.array(scales)

    def bumpy(x: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (scale * x**2 + np.cos(3 * x)).sum(1) + 10, 2 * scale * x - 3 * np.sin(3 * x)

    starts = np.random.default_rng(seed).uniform(-5, 5, (20, len(scales)))
    ends, values = minimize_many(bumpy, starts, tolerance=1e-13)
    reached, gradient = bumpy(ends, np.arange(20))
    assert values == pytest.approx(reached)
    assert (values <= bumpy(starts, np.arange(20))[0]).all()
    assert (np.abs(gradient) < 1e-3 * (1 + max(scales))).all()
