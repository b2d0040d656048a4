import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import huber as scipy_huber

from xtrimogene.protein.scaling_laws.huber import DELTA, HuberObjective

UNKNOWNS = np.array([[6.0, 7.0, 0.5, 0.34, 0.28], [5.0, 9.0, -60.0, 0.3, 0.4]])


@pytest.fixture
def huber() -> HuberObjective:
    random = np.random.default_rng(0)
    size, tokens = np.exp(random.uniform(16, 22, 40)), np.exp(random.uniform(20, 26, 40))
    return HuberObjective.of(size, tokens, 1.7 + 400 / size**0.34 + 900 / tokens**0.3)


def test_it_is_the_sum_of_huber_losses_of_log_loss(huber: HuberObjective) -> None:
    a, b, e, alpha, beta = UNKNOWNS.T[..., None]
    size, tokens = np.exp(huber.log_size + huber.middle[0]), np.exp(huber.log_tokens + huber.middle[1])
    loss = np.exp(e) + np.exp(a) / size**alpha + np.exp(b) / tokens**beta
    expected = scipy_huber(DELTA, np.log(loss) - huber.log_loss).sum(1)
    value, _ = huber.value(huber.centred(UNKNOWNS))
    np.testing.assert_allclose(value * DELTA, expected, rtol=1e-10)


def test_its_gradient_is_right(huber: HuberObjective) -> None:
    weights = np.random.default_rng(1).integers(0, 3, (1, 40)).astype(float)
    for point in huber.centred(UNKNOWNS):
        value, gradient = (
            lambda x: huber.value(x[None], weights)[0][0],
            lambda x: huber.value(x[None], weights)[1][0],
        )
        assert check_grad(value, gradient, point, epsilon=1e-7) < 1e-4 * (1 + np.linalg.norm(gradient(point)))


def test_units_go_there_and_back(huber: HuberObjective) -> None:
    np.testing.assert_allclose(huber.plain(huber.centred(UNKNOWNS)), UNKNOWNS, rtol=1e-12)


def test_nothing_overflows_far_from_the_points(huber: HuberObjective) -> None:
    value, gradient = huber.value(np.array([[700.0, -700, 700, 200, -200]]))
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
