from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.protein.scaling_laws.compute_optimal import ComputeOptimalLaw
from xtrimogene.protein.scaling_laws.isoflop import Refits, fit_isoflop

FLOPS = np.array([1e18, 3e18, 1e19, 3e19, 1e20, 3e20, 1e21])
SIZES = np.exp(np.linspace(-2, 2, 11))


def simulate(noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return runs about N = 2e-3 C^.55 whose least loss is 8 C^-.026."""
    flops = np.repeat(FLOPS, len(SIZES))
    from_best = np.tile(np.log(SIZES), len(FLOPS))
    loss = 8 * flops**-0.026 + 0.03 * from_best**2
    loss += noise * np.random.default_rng(seed).standard_normal(len(loss))
    return flops, 2e-3 * flops**0.55 * np.exp(from_best), loss


def law(*runs: np.ndarray, **options: Any) -> ComputeOptimalLaw:
    return fit_isoflop(
        *runs,
        **{
            "name": "mine",
            "objective": "mlm",
            "data": "simulated",
            "num_bootstraps": 20,
            "minimum": "raw",
            "fit": "linear",
        }
        | options,
    )


@pytest.mark.parametrize("minimum", ["raw", "parabola"])
@pytest.mark.parametrize("fit", ["linear", "log"])
def test_a_law_without_noise_is_found_again(minimum: str, fit: str) -> None:
    found = law(*simulate(), minimum=minimum, fit=fit, num_bootstraps=0)
    assert found.num_parameters.exponent == pytest.approx(0.55, abs=1e-6)
    assert found.num_tokens.exponent == pytest.approx(0.45, abs=1e-6)
    assert found.optimum(1e20).num_parameters == pytest.approx(2e-3 * 1e20**0.55, rel=1e-5)
    assert found.optimum(1e20).balance == pytest.approx(1, rel=1e-5)
    assert found.optimum(1e20).loss == pytest.approx(8 * 1e20**-0.026, rel=1e-4)
    assert found.fitted_flops == (1e18, 1e21) and found.caution == ""
    assert found.num_parameters.interval(1e20) is None


@pytest.mark.parametrize("refits", ["reflected", "noise", "runs"])
def test_intervals_hold_the_law_and_are_the_same_for_one_seed(refits: Refits) -> None:
    runs = simulate(noise=0.002)
    found = law(*runs, minimum="parabola", fit="log", refits=refits, num_bootstraps=100)
    low, high = found.num_parameters.interval(1e20) or (0, 0)
    assert low < 2e-3 * 1e20**0.55 < high < 1.2 * low
    assert found == law(*runs, minimum="parabola", fit="log", refits=refits, num_bootstraps=100)
    assert found != law(*runs, minimum="parabola", fit="log", refits=refits, num_bootstraps=100, seed=1)


def test_size_tokens_and_loss_of_a_refit_belong_together() -> None:
    found = law(*simulate(noise=0.01), fit="log")
    for size, tokens in zip(found.num_parameters.refits, found.num_tokens.refits, strict=True):
        assert size[1] + tokens[1] == pytest.approx(1)
        assert 6 * size[0] * tokens[0] == pytest.approx(1)


def test_the_order_of_runs_does_not_matter() -> None:
    flops, sizes, loss = simulate(noise=0.01)
    order = np.random.default_rng(0).permutation(len(loss))
    assert law(flops, sizes, loss) == law(flops[order], sizes[order], loss[order])


def test_more_noise_makes_wider_intervals() -> None:
    def width(noise: float) -> float:
        low, high = law(*simulate(0.01), minimum="parabola", noise=noise).num_parameters.exponent_interval() or (0, 0)
        return high - low

    assert width(0.02) > 1.5 * width(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("minimum", "fit"), [("raw", "log"), ("parabola", "log"), ("parabola", "linear")])
def test_nine_intervals_in_ten_hold_the_law(minimum: str, fit: str) -> None:
    held = 0
    for seed in range(200):
        low, high = law(
            *simulate(0.01, seed), minimum=minimum, fit=fit, num_bootstraps=200
        ).num_parameters.exponent_interval() or (0, 0)
        held += low <= 0.55 <= high
    assert 0.83 <= held / 200 <= 0.96  # of 200 draws, two deviations about .85 to .95


def test_a_best_size_at_the_end_of_those_tried_is_said() -> None:
    flops, sizes, loss = simulate()
    kept = (flops < 1e21) | (sizes > 2e-3 * 1e21**0.55 * 0.99)
    assert "1e+21" in law(flops[kept], sizes[kept], loss[kept]).caution


def test_bad_runs_are_refused() -> None:
    flops, sizes, loss = simulate()
    with pytest.raises(ConfigError, match="at least two budgets"):
        law(flops[:11], sizes[:11], loss[:11])
    with pytest.raises(ConfigError, match="there are 1 sizes; at least 3"):
        law(flops * np.linspace(1, 1.01, len(flops)), sizes, loss)
    with pytest.raises(ConfigError, match="point 3 is nan"):
        law(flops, sizes, np.where(np.arange(len(loss)) == 3, np.nan, loss))
    with pytest.raises(ConfigError, match="has no minimum near"):
        law(flops, sizes, 3 - loss, minimum="parabola")


CLM = ((1.25888e-3, 0.57864), (123.715, 0.42278), (7.8195, -0.02610))
MLM = ((6.19452e-8, 0.77572), (2.02340e6, 0.23024), (7.7869, -0.02819))


@pytest.mark.shared
@pytest.mark.parametrize(("objective", "published"), [("clm", CLM), ("mlm", MLM)])
def test_the_published_laws_come_out(objective: str, published: tuple[tuple[float, float], ...], shared: Path) -> None:
    found = law(*published_runs(shared, objective), objective=objective, num_bootstraps=0)
    assert found.loss is not None
    for power, (coefficient, exponent) in zip(
        (found.num_parameters, found.num_tokens, found.loss), published, strict=True
    ):
        assert power.coefficient == pytest.approx(coefficient, rel=5e-5)
        assert power.exponent == pytest.approx(exponent, abs=6e-6)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("objective", "logarithms", "parabolas", "interval"),
    [("clm", 0.571, 0.635, (0.515, 0.724)), ("mlm", 0.767, 0.749, (0.652, 0.851))],
)
def test_the_method_moves_the_exponent(
    objective: str, logarithms: float, parabolas: float, interval: tuple[float, float], shared: Path
) -> None:
    runs = published_runs(shared, objective)
    raw = law(*runs, fit="log", refits="noise", noise=0.01, num_bootstraps=2_000)
    assert raw.num_parameters.exponent == pytest.approx(logarithms, abs=5e-4)
    assert raw.num_parameters.exponent_interval(0.95) == pytest.approx(interval, abs=0.01)
    vertices = law(*runs, fit="log", minimum="parabola", num_bootstraps=0)
    assert vertices.num_parameters.exponent == pytest.approx(parabolas, abs=5e-4)


def published_runs(shared: Path, objective: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = pd.read_csv(shared / "data" / "protein" / "isoflop_points.csv")
    points = points[points.objective == objective.upper()]
    flops, sizes, loss = points[["budget_flops", "N_params", "final_validation_loss"]].to_numpy(float).T
    return flops, sizes, loss
