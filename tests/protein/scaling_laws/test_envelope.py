from typing import Any

import numpy as np
import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.protein.scaling_laws.compute_optimal import ComputeOptimalLaw
from xtrimogene.protein.scaling_laws.envelope import fit_envelope

COMPUTES = np.geomspace(1e18, 1e21, 60)


def simulate(noise: float = 0.0, seed: int = 0, num_sizes: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return curves that at a compute C are lowest where N = 2e-3 C^.55, by 8 C^-.026."""
    low, high = 2e-3 * COMPUTES[[0, -1]] ** 0.55
    size, flops = np.meshgrid(np.geomspace(low / 2, high * 2, num_sizes), COMPUTES, indexing="ij")
    loss = 8 * flops**-0.026 + 0.03 * np.log(size / (2e-3 * flops**0.55)) ** 2
    loss += noise * np.random.default_rng(seed).standard_normal(loss.shape)
    return flops.ravel(), size.ravel(), loss.ravel()


def law(*points: np.ndarray, **options: Any) -> ComputeOptimalLaw:
    settings = {"name": "mine", "objective": "clm", "data": "simulated", "num_bins": 59, "num_bootstraps": 20}
    return fit_envelope(*points, **settings | options)


@pytest.mark.parametrize("fit", ["linear", "log"])
def test_a_law_without_noise_is_found_again(fit: str) -> None:
    found = law(*simulate(), fit=fit)
    assert found.num_parameters.exponent == pytest.approx(0.55, abs=0.005)
    assert found.num_tokens.exponent == pytest.approx(0.45, abs=0.005)
    assert found.num_parameters.at(1e20) == pytest.approx(2e-3 * 1e20**0.55, rel=0.02)
    assert found.loss is not None and found.loss.at(1e20) == pytest.approx(8 * 1e20**-0.026, rel=1e-3)
    assert found.fitted_flops == pytest.approx((1e18, 1e21), rel=0.1)


def test_an_interval_is_wider_with_more_noise_and_the_same_for_one_seed() -> None:
    def width(noise: float) -> float:
        points = simulate(noise, num_sizes=12)
        found = law(*points, num_bootstraps=100)
        assert found == law(*points, num_bootstraps=100)
        low, high = found.num_parameters.exponent_interval() or (0, 0)
        return high - low

    assert width(0.02) > 1.3 * width(0.004) > 0


@pytest.mark.slow
def test_nine_intervals_in_ten_hold_the_law() -> None:
    held = 0
    for seed in range(200):
        found = law(*simulate(0.01, seed, num_sizes=12), num_bootstraps=200)
        low, high = found.num_parameters.exponent_interval() or (0, 0)
        held += low <= 0.55 <= high
    assert 0.82 <= held / 200 <= 0.97


def test_two_runs_of_a_size_are_two_and_a_bin_holds_a_mean() -> None:
    flops, size, loss = simulate(num_sizes=12)
    again = loss + 0.5  # a run that failed does not pull up its twin
    doubled = [np.concatenate([one, other]) for one, other in ((flops, flops), (size, size), (loss, again))]
    run = np.concatenate([size, -size])
    alone = law(flops, size, loss, num_bootstraps=0).num_parameters
    assert law(*doubled, run=run, num_bootstraps=0).num_parameters.exponent == pytest.approx(alone.exponent, abs=1e-9)
    mixed = law(*doubled, num_bootstraps=0).loss
    assert mixed is not None and mixed.at(1e20) > 8 * 1e20**-0.026 + 0.2  # the mean of both


def test_compute_outside_the_range_is_left_out() -> None:
    flops, size, loss = simulate(num_sizes=12)
    spoilt = np.where(flops < 1e19, 1.0, loss)
    between = (1.01e19, 1e21)
    assert law(flops, size, spoilt, between=between) == law(flops, size, loss, between=between)


def test_bad_curves_are_refused() -> None:
    flops, size, loss = simulate(num_sizes=12)
    with pytest.raises(ConfigError, match="must rise"):
        law(flops, size, loss, between=(1e21, 1e18))
    with pytest.raises(ConfigError, match="no point lies between"):
        law(flops, size, loss, between=(1e25, 1e26))
    with pytest.raises(ConfigError, match="1 bins hold points"):
        law(flops, size, loss, num_bins=1)
    with pytest.raises(ConfigError, match="is the best throughout"):
        law(flops[:60], size[:60], loss[:60])
