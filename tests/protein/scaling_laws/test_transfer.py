from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.errors import ConfigError
from xtrimogene.protein.scaling_laws.power_law import PowerLaw
from xtrimogene.protein.scaling_laws.transfer import TransferLaw

LAW = TransferLaw(
    name="crude",
    k=7.66e4,
    alpha=0.203,
    beta=0.366,
    scratch=PowerLaw(coefficient=9.2675, exponent=-0.03195),
    transfer=PowerLaw(coefficient=10.126, exponent=-0.03413),
    first_share=(0.09, 0.35),
    fitted_parameters=(2.5e7, 1.2e9),
    data="",
    source="",
)


def test_the_crude_law_gives_the_published_split() -> None:
    split = LAW.split(3e20, 472435184.0)
    assert split.first_share == pytest.approx(0.18, abs=0.005)
    assert split.first_tokens + split.second_tokens == pytest.approx(3e20 / 6 / 472435184)
    for flops, size in ((3e19, 8.5e7), (1e20, 2e8), (1e21, 1.2e9)):
        assert 0.1 < LAW.split(flops, size).first_share < 0.21


@given(st.floats(1e17, 1e23), st.floats(1e6, 1e11))
def test_at_the_split_clm_saves_as_much_as_it_takes(flops: float, num_parameters: float) -> None:
    split = LAW.split(flops, num_parameters)
    assert 0 <= split.first_share <= 1
    if split.first_share < 1:
        saved = LAW.transferred_tokens(split.second_tokens, num_parameters)
        assert saved == pytest.approx(split.first_tokens, rel=1e-4)


def test_a_law_that_saves_nothing_gives_clm_nothing() -> None:
    assert replace(LAW, k=0.0).split(1e20, 1e8).first_share == 0


def test_a_budget_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="must be > 0"):
        LAW.split(0.0, 1e8)


def test_intervals_are_those_of_the_refits() -> None:
    assert LAW.exponent_intervals() is None
    refits = tuple((1.0, 0.1 + i / 1000, 0.3 - i / 1000) for i in range(101))
    alpha, beta = replace(LAW, refits=refits).exponent_intervals(0.8) or ((0, 0), (0, 0))
    assert alpha == pytest.approx((0.11, 0.19)) and beta == pytest.approx((0.21, 0.29))
