from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.protein.scaling_laws.transfer_fit import TransferPair, fit_transfer

SIZES = ((25e6, 1e19), (85e6, 3e19), (2e8, 1e20), (4.7e8, 3e20), (1.2e9, 1e21))


def simulate(noise: float = 0.0, seed: int = 0, k: float = 7.66e4) -> list[TransferPair]:
    """Return pairs in which the second curve is the first's, k D^.203 N^.366 tokens further on."""
    random = np.random.default_rng(seed)
    pairs = []
    for size, flops in SIZES:
        tokens = np.linspace(0.0025, 1, 400) * flops / (6 * size)
        saved = k * tokens**0.203 * size**0.366
        scratch, after = (
            1.2 + 30 / size**0.2 + 60 / (tokens + more) ** 0.22 + noise * random.standard_normal(400)
            for more in (0, saved)
        )
        pairs.append(
            TransferPair(
                num_parameters=size,
                flops=flops,
                first_flops=0.25 * flops,
                scratch_tokens=tokens,
                scratch_loss=scratch,
                transfer_tokens=tokens,
                transfer_loss=after,
            )
        )
    return pairs


def test_a_law_without_noise_is_found_again() -> None:
    law = fit_transfer(simulate(), name="mine", data="simulated", num_bootstraps=0)
    assert (law.alpha, law.beta) == pytest.approx((0.203, 0.366), abs=0.01)
    assert law.transferred_tokens(5e10, 2e8) == pytest.approx(7.66e4 * 5e10**0.203 * 2e8**0.366, rel=0.02)
    assert law.first_share == pytest.approx((0.2, 0.2)) and law.fitted_parameters == (25e6, 1.2e9)
    assert law.scratch.at(1e20) > law.transfer.at(1e20)
    assert law.exponent_intervals() is None


def test_intervals_hold_the_law_and_are_the_same_for_one_seed() -> None:
    pairs = simulate(0.005)
    law = fit_transfer(pairs, name="mine", data="simulated", num_bootstraps=50)
    (a_low, a_high), (b_low, b_high) = law.exponent_intervals() or ((0, 0), (0, 0))
    assert a_low < 0.203 < a_high < a_low + 0.2 and b_low < 0.366 < b_high < b_low + 0.2
    assert law == fit_transfer(pairs, name="mine", data="simulated", num_bootstraps=50)


def test_saved_tokens_are_counted_to_the_first_one_s_final_loss() -> None:
    for pair in simulate():
        end = pair.scratch_tokens[-1]
        at = end - pair.saved_tokens
        assert 7.66e4 * at**0.203 * pair.num_parameters**0.366 == pytest.approx(pair.saved_tokens, rel=0.05)


def test_pairs_that_tell_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="pairs of 2 sizes are too few"):
        fit_transfer(simulate()[:2], name="mine", data="")
    worse = [replace(pair, transfer_loss=pair.scratch_loss + 0.01) for pair in simulate()]
    with pytest.raises(ConfigError, match="never ahead of its pair"):
        fit_transfer(worse, name="mine", data="")
    with pytest.raises(ConfigError, match="no tokens it has saved"):
        worse[0].saved_tokens  # noqa: B018


TABLE = (
    ("25M_1e19", "1e18", 25165824, 2.2880, 2.2744, 12.1),
    ("85M_3e19", "5.2e18", 84934656, 2.2146, 2.1925, 18.1),
    ("200M_1e20", "2.3e19", 202309632, 2.1279, 2.1020, 19.6),
    ("470M_3e20", "1e20", 472435184, 2.0557, 2.0310, 24.4),
    ("1.2B_1e21", "5.3e20", 1208881136, 1.9755, 1.9413, 36.1),
)


@pytest.mark.shared
def test_the_published_pairs(shared: Path) -> None:
    pairs = []
    for name, first, size, *published in TABLE:
        stem = shared / "data" / "protein" / "transfer_curves" / name
        scratch, after = (pd.read_csv(f"{stem}{end}.csv") for end in ("", f"_clm_pretrain_{first}"))
        pair = TransferPair(
            num_parameters=float(size),
            flops=float(name.split("_")[1]),
            first_flops=float(first),
            scratch_tokens=scratch.Step.to_numpy(float),
            scratch_loss=scratch.Value.to_numpy(float),
            transfer_tokens=after.Step.to_numpy(float),
            transfer_loss=after.Value.to_numpy(float),
        )
        found = [*(round(loss, 4) for loss in pair.final_losses), round(pair.saved_tokens / 1e9, 1)]
        assert found == published
        pairs.append(pair)
    law = fit_transfer(pairs, name="pairs", data="", num_bootstraps=30)
    assert (law.scratch.coefficient, law.scratch.exponent) == pytest.approx((9.2675, -0.03195), rel=1e-4)
    assert (law.transfer.coefficient, law.transfer.exponent) == pytest.approx((10.126, -0.03413), rel=2e-4)
    assert (law.alpha, law.beta) == pytest.approx((0.203, 0.366), abs=0.05)  # one crude fit
    for pair in pairs:
        assert 0.09 < law.split(pair.flops, pair.num_parameters).first_share < 0.21
