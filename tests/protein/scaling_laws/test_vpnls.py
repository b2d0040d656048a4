import numpy as np
from scipy.optimize import nnls

from xtrimogene.protein.scaling_laws.huber import HuberObjective
from xtrimogene.protein.scaling_laws.vpnls import (
    EXPONENTS,
    _local_minima,
    _nonnegative_least_squares,
    grid_starts,
)


def test_small_problems_are_solved_as_scipy_solves_them() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        matrix, target = random.standard_normal((20, 3)), random.standard_normal(20)
        expected, distance = nnls(matrix, target)
        error, solution = _nonnegative_least_squares(matrix.T @ matrix, matrix.T @ target, float(target @ target))
        np.testing.assert_allclose(solution, expected, atol=1e-9)
        np.testing.assert_allclose(error, distance**2, atol=1e-9)


def test_the_best_start_is_the_grid_s_best_law() -> None:
    random = np.random.default_rng(0)
    size, tokens = np.exp(random.uniform(16, 22, 100)), np.exp(random.uniform(20, 26, 100))
    alpha, beta = EXPONENTS[35], EXPONENTS[38]
    loss = 1.7 + 400 / size**alpha + 900 / tokens**beta
    huber = HuberObjective.of(size, tokens, loss)
    (starts,) = grid_starts(huber, np.ones((1, 100)))
    a, b, e, *exponents = huber.plain(starts)[huber.value(starts)[0].argmin()]
    np.testing.assert_allclose(np.exp([a, b, e]), [400, 900, 1.7], rtol=1e-4)
    np.testing.assert_allclose(exponents, [alpha, beta])


def test_copies_of_points_count_as_weights() -> None:
    random = np.random.default_rng(1)
    size, tokens = np.exp(random.uniform(16, 22, 30)), np.exp(random.uniform(20, 26, 30))
    loss = 1.7 + 400 / size**0.34 + 900 / tokens**0.3 + 0.01 * random.standard_normal(30)
    huber = HuberObjective.of(size, tokens, loss)
    weight = random.integers(0, 3, 30)
    drawn = np.repeat(np.arange(30), weight)
    copied = HuberObjective(
        log_size=huber.log_size[drawn],
        log_tokens=huber.log_tokens[drawn],
        log_loss=huber.log_loss[drawn],
        middle=huber.middle,
    )
    (weighted,) = grid_starts(huber, weight[None].astype(float))
    (repeated,) = grid_starts(copied, np.ones((1, len(drawn))))
    np.testing.assert_allclose(weighted, repeated, rtol=1e-6)


def test_minima_of_a_grid() -> None:
    error = np.array([[3.0, 2, 3, 0], [3, 3, 3, 3], [1, 1, 3, 2]])
    assert np.argwhere(_local_minima(error)).tolist() == [[0, 1], [0, 3], [2, 0], [2, 3]]
