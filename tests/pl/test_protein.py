"""What is drawn of scaling laws and of the runs behind them."""

from typing import Any

import numpy as np
import pytest

import xtrimogene as xt
from xtrimogene.errors import ConfigError
from xtrimogene.protein.planning.plan import plan
from xtrimogene.protein.scaling_laws.registry import read_law


def law(name: str) -> Any:
    return read_law(name)


def test_lines_say_what_the_law_says_and_are_dashed_where_it_was_not_fitted() -> None:
    mlm = law("cheng2024:mlm")
    ax = xt.pl.scaling_law(mlm, law("cheng2024:clm"), flops=(1e17, 1e23))
    assert [line.get_linestyle() for line in ax.lines] == ["--", "-", "--"] * 2
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["cheng2024:mlm", "cheng2024:clm"]
    budgets, sizes = (np.asarray(values, float) for values in ax.lines[1].get_data())
    np.testing.assert_allclose(budgets[[0, -1]], mlm.fitted_flops)
    np.testing.assert_allclose(sizes, mlm.num_parameters.curve(budgets))
    assert len(ax.collections) == 2  # a band each


def test_a_law_without_refits_has_no_band() -> None:
    assert not xt.pl.scaling_law(law("hoffmann2022"), of="loss").collections


@pytest.mark.parametrize(("of", "said"), [("num_parameters", "10.8 billion"), ("num_tokens", "265 billion")])
def test_plans_are_points(of: Any, said: str) -> None:
    planned = plan(1.68e22, "mlm")
    ax = xt.pl.scaling_law(law("cheng2024:mlm"), of=of, plans=[planned])
    assert np.ravel(ax.lines[-1].get_data()) == pytest.approx([1.68e22, getattr(planned, of)])
    assert [text.get_text() for text in ax.texts] == [said]


def test_isoflop_has_a_line_for_each_budget_and_the_laws_best_size() -> None:
    flops = np.repeat([1e18, 1e20], 3)
    sizes, loss = np.array([3e6, 1e6, 2e6, 1e7, 2e7, 3e7]), np.array([2.4, 2.5, 2.3, 2.2, 2.1, 2.2])
    mlm = law("cheng2024:mlm")
    ax = xt.pl.isoflop(flops, sizes, loss, law=mlm)
    lines = [tuple(map(list, line.get_data())) for line in ax.lines]
    assert lines[0] == ([1e6, 2e6, 3e6], [2.5, 2.3, 2.4])
    assert np.ravel(lines[1]) == pytest.approx([mlm.num_parameters.at(1e18), 2.3])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1e+18", "1e+20"]


def test_what_cannot_be_drawn_is_said() -> None:
    with pytest.raises(ConfigError, match="a law is needed"):
        xt.pl.scaling_law()
    with pytest.raises(ConfigError, match="smaller budget and a larger"):
        xt.pl.scaling_law(law("cheng2024:mlm"), flops=(1e20, 1e19))
    assert len(xt.pl.isoflop([1e18, 1e18], [1e6, 2e6], [2.5, 2.4]).lines) == 1
    with pytest.raises(ConfigError, match="2, 1 and 1 came"):
        xt.pl.isoflop(np.ones(2), np.ones(1), np.ones(1))
