import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.protein.scaling_laws.power_fit import Space, fit_powers

FLOPS = np.array([1e18, 3e18, 1e19, 3e19, 1e20, 3e20, 1e21])


@given(st.floats(-30, 30), st.floats(-1, 1.5), st.sampled_from(["linear", "log"]))
def test_a_power_is_found_again_whatever_its_units(level: float, exponent: float, space: Space) -> None:
    y = np.exp(level) * FLOPS**exponent
    ((coefficient, found),) = fit_powers(FLOPS[None], y[None], space)
    assert found == pytest.approx(exponent, abs=1e-9)
    assert coefficient == pytest.approx(np.exp(level), rel=1e-6)


def test_rows_do_not_depend_on_each_other() -> None:
    random = np.random.default_rng(0)
    y = 1e-3 * FLOPS**0.5 * np.exp(0.3 * random.standard_normal((5, 7)))
    x = np.broadcast_to(FLOPS, y.shape)
    together = fit_powers(x, y)
    alone = np.concatenate([fit_powers(x[:1], row[None]) for row in y])
    np.testing.assert_allclose(together, alone, rtol=1e-8)


def test_least_squares_of_y_has_no_better_neighbour() -> None:
    random = np.random.default_rng(1)
    y = 1e-3 * FLOPS**0.5 * np.exp(0.3 * random.standard_normal(7))
    ((coefficient, exponent),) = fit_powers(FLOPS[None], y[None])

    def error(a: float, b: float) -> float:
        return float(((y - a * (FLOPS / 1e20) ** b) ** 2).sum())

    best = coefficient * 1e20**exponent
    least = error(best, exponent)
    for factor, shift in ((1 + 1e-6, 0), (1 - 1e-6, 0), (1, 1e-6), (1, -1e-6)):
        assert error(best * factor, exponent + shift) > least


def test_a_point_of_no_weight_does_not_count() -> None:
    y = 3 * FLOPS**0.4
    y[2] *= 50
    weights = np.ones((1, 7))
    weights[0, 2] = 0
    np.testing.assert_allclose(fit_powers(FLOPS[None], y[None], "log", weights), [[3, 0.4]], rtol=1e-9)
