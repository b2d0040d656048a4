from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.protein.scaling_laws.basins import find_basins
from xtrimogene.protein.scaling_laws.huber import HuberObjective
from xtrimogene.protein.scaling_laws.parametric import ParametricLaw
from xtrimogene.protein.scaling_laws.parametric_fit import (
    Method,
    ParametricFit,
    _refit,
    fit_parametric,
    hoffmann_starts,
)
from xtrimogene.protein.scaling_laws.quasi_newton import minimize_many

CONSTANTS = {"E": 1.7, "A": 400.0, "B": 900.0, "alpha": 0.34, "beta": 0.3}
Points = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulate(noise: float = 0.0, seed: int = 0, count: int = 100) -> Points:
    random = np.random.default_rng(seed)
    size, tokens = np.exp(random.uniform(16, 23, count)), np.exp(random.uniform(20, 27, count))
    loss = 1.7 + 400 / size**0.34 + 900 / tokens**0.3 + noise * random.standard_normal(count)
    return size, tokens, loss


def fit(*points: np.ndarray, **options: Any) -> ParametricFit:
    settings = {"name": "mine", "objective": "text", "data": "simulated", "method": "vpnls", "num_bootstraps": 20}
    return fit_parametric(*points, **settings | options)


def constants(law: ParametricLaw) -> dict[str, float]:
    return {name: getattr(law, name) for name in CONSTANTS}


def test_hoffmann_s_starts() -> None:
    starts = hoffmann_starts()
    assert starts.shape == (4_500, 5) and len(np.unique(starts, axis=0)) == 4_500
    assert starts.min(0).tolist() == [0, 0, -1, 0, 0] and starts.max(0).tolist() == [25, 25, 1, 2, 2]


def test_a_law_without_noise_is_found_again() -> None:
    found = fit(*simulate(), num_bootstraps=0)
    assert constants(found.law) == pytest.approx(CONSTANTS, rel=1e-3)
    assert found.identified and found.intervals == {} and found.law.caution == ""
    assert found.law.fitted_flops[0] < found.law.fitted_flops[1]


def test_the_outcome_is_told_in_words() -> None:
    said = str(fit(*simulate(0.01)))
    assert said.startswith("mine: L = 1.") and "90 % of refits: E [" in said and "condition number" in said
    assert "best       objective" in said and "Warning" not in said


def test_intervals_hold_the_law_and_are_the_same_for_one_seed() -> None:
    points = simulate(0.005)
    found = fit(*points, num_bootstraps=60)
    for name in ("alpha", "beta"):
        low, high = found.intervals[name]
        assert low / 1.1 < CONSTANTS[name] < high * 1.1 < 2 * low
    assert found == fit(*points, num_bootstraps=60)
    assert found.intervals != fit(*points, num_bootstraps=60, seed=1).intervals


@pytest.mark.slow
def test_two_unknowns_are_far_better_conditioned_than_five() -> None:
    five, two = fit(*simulate(0.01), method="lbfgs", num_bootstraps=0), fit(*simulate(0.01), num_bootstraps=0)
    assert five.objective == pytest.approx(two.objective, rel=1e-6)
    assert five.condition > 100 * two.condition
    assert sum(basin.num_starts for basin in five.basins) <= 4_500


def test_exponents_that_make_up_for_a_missing_floor_are_not_identified() -> None:
    size, tokens, _ = simulate()
    random = np.random.default_rng(0)
    loss = 3.0 / size**0.04 + 5.0 / tokens**0.06 + 0.005 * random.standard_normal(len(size))
    found = fit(size, tokens, loss)
    assert not found.identified and found.law.caution == found.warning
    assert "alpha and beta are not identified" in found.warning and found.warning in str(found)


def test_a_given_law_is_told_from_an_optimum() -> None:
    points = simulate(0.01)
    best = fit(*points, num_bootstraps=0).law
    far = replace(best, name="far", alpha=best.alpha * 1.2, A=best.A * 20)
    kinds = [basin.kind for basin in fit(*points, num_bootstraps=0, given=[best, far]).basins]
    assert kinds.count("best") == 2 and kinds[-1] == "unfinished"


def test_a_loss_that_rises_is_no_law(monkeypatch: pytest.MonkeyPatch) -> None:
    some = hoffmann_starts()[::50]
    monkeypatch.setattr("xtrimogene.protein.scaling_laws.parametric_fit.hoffmann_starts", lambda: some)
    size, tokens, _ = simulate(count=12)
    with pytest.raises(ConfigError, match=r"fitted best by a loss that rises with N or D \(alpha -0.34, beta 0.3\)"):
        fit(size, tokens, 2 + 1e-3 * size**0.34 + 900 / tokens**0.3, method="lbfgs", num_bootstraps=0)


def test_bad_points_are_refused() -> None:
    size, tokens, loss = simulate()
    with pytest.raises(ConfigError, match="all points have num_tokens"):
        fit(size, np.full(100, 1e9), loss)
    with pytest.raises(ConfigError, match="at least 6"):
        fit(size[:5], tokens[:5], loss[:5])


@pytest.mark.slow
def test_resamples_lose_nothing_by_starting_from_the_basins() -> None:
    points = simulate(0.02, count=40)
    huber = HuberObjective.of(*points)
    starts = huber.centred(hoffmann_starts()[::9])
    ends, basins = find_basins(huber, starts)
    weights = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), size=5).astype(float)
    found = _refit(huber, ends, basins, "lbfgs", weights)
    for weight, end in zip(weights, found, strict=True):
        value, _ = huber.value(end[None], weight[None])
        _, values = minimize_many(
            lambda x, _, weight=weight: huber.value(x, np.broadcast_to(weight, (len(x), 40))), starts
        )
        assert value[0] <= values.min() * (1 + 1e-4)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("method", ["lbfgs", "vpnls"])
def test_the_known_answer_of_chinchilla_s_points(method: Method, shared: Path) -> None:
    points = pd.read_csv(shared / "data" / "protein" / "chinchilla_points.csv").sort_values("loss").iloc[:-5]
    size, flops = points["Model Size"].to_numpy(float), points["Training FLOP"].to_numpy(float)
    found = fit(size, flops / (6 * size), points.loss.to_numpy(float), method=method, num_bootstraps=100)
    assert found.objective == pytest.approx(0.0010182740, rel=1e-6)
    published = {"E": 1.81724, "A": 477.84, "B": 2143.86, "alpha": 0.34731, "beta": 0.36718}
    assert constants(found.law) == pytest.approx(published, rel=1e-3)
    assert found.identified
    for name, value in published.items():
        assert found.intervals[name][0] < value < found.intervals[name][1]


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("method", ["lbfgs", "vpnls"])
def test_the_published_protein_law_is_no_optimum(method: Method, shared: Path) -> None:
    points = pd.read_csv(shared / "data" / "protein" / "envelope_CLM_log200.csv")
    published = ParametricLaw(
        name="published",
        objective="clm",
        E=2.122564,
        A=143.9753,
        B=22036.53,
        alpha=0.3665866,
        beta=0.4955893,
        fitted_flops=(1e18, 1e21),
        data="",
        source="",
    )
    columns = [points[name].to_numpy(float) for name in ("N", "D_row", "L")]
    found = fit(*columns, method=method, num_bootstraps=0, given=[published])
    assert found.objective == pytest.approx(4.56e-4, rel=1e-3) and found.law.E == 0
    best = {"E": 0, "A": 3.0588, "B": 4.5376, "alpha": 0.04301, "beta": 0.05988}
    assert constants(found.law) == pytest.approx(best, rel=1e-3)
    (unfinished,) = (basin for basin in found.basins if basin.kind == "unfinished")
    assert unfinished.objective == pytest.approx(1.439e-3, rel=1e-3)
    assert found.law.parameters_exponent == pytest.approx(0.582, abs=1e-3)
    assert not found.identified
