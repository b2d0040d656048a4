"""A budget becomes a model: the published answers, and what a plan must agree with itself about."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrimogene.errors import ConfigError
from xtrimogene.protein.network.parameters import count_parameters
from xtrimogene.protein.planning.model_plan import write_plan
from xtrimogene.protein.planning.plan import plan
from xtrimogene.protein.scaling_laws.registry import read_law

BUDGETS = st.floats(17.0, 24.0).map(lambda exponent: 10.0**exponent)


@pytest.mark.parametrize(
    ("flops", "objective", "parameters", "tokens"), [(1.68e22, "mlm", 10.8, 265), (1.148e22, "clm", 7.32, 262)]
)
def test_published_budgets_give_the_published_models(
    flops: float, objective: Any, parameters: float, tokens: float
) -> None:
    planned = plan(flops, objective)
    assert planned.num_parameters / 1e9 == pytest.approx(parameters, rel=5e-3)
    assert planned.num_tokens / 1e9 == pytest.approx(tokens, rel=5e-3)


@pytest.mark.parametrize(("objective", "parameters", "tokens"), [("clm", 3.79, 2.65), ("mlm", 5.97, 1.70)])
def test_ten_times_the_compute(objective: Any, parameters: float, tokens: float) -> None:
    small, large = plan(1e20, objective), plan(1e21, objective)
    assert large.num_parameters / small.num_parameters == pytest.approx(parameters, abs=5e-3)
    assert large.num_tokens / small.num_tokens == pytest.approx(tokens, abs=5e-3)


def test_two_laws_do_not_quite_share_the_budget() -> None:
    assert plan(1.68e22, "mlm").balance == pytest.approx(1.02, abs=5e-3)
    assert plan(1e18, "mlm").balance == pytest.approx(0.963, abs=5e-4)


@settings(max_examples=20)
@given(flops=BUDGETS, objective=st.sampled_from(["mlm", "clm", "clm->mlm", "both"]))
def test_balanced_by_tokens_the_budget_is_spent(flops: float, objective: Any) -> None:
    planned = plan(flops, objective, balance="tokens")
    assert planned.balance == pytest.approx(1.0, rel=1e-9)
    assert planned.num_parameters == plan(flops, objective).num_parameters


def test_two_models_of_one_size_meet_where_the_laws_do() -> None:
    planned = plan(2 * 7.2e21, "both")
    assert planned.num_parameters == pytest.approx(5.6e9, rel=5e-3)
    assert [run.budget for run in planned.runs] == pytest.approx([7.2e21] * 2, rel=5e-3)


@settings(max_examples=20)
@given(flops=BUDGETS)
def test_both_share_one_budget_and_one_size(flops: float) -> None:
    planned = plan(flops, "both")
    assert sum(run.budget for run in planned.runs) == pytest.approx(flops)
    sizes = [run.law.num_parameters.at(run.budget) for run in planned.runs]
    assert sizes == pytest.approx([planned.num_parameters] * 2)


def test_clm_first_takes_its_share_of_the_same_tokens() -> None:
    alone, first = plan(1e21, "mlm"), plan(1e21, "clm->mlm", first_share=0.2)
    assert first.num_tokens == pytest.approx(alone.num_tokens)
    assert first.clm_share == pytest.approx(0.2)
    assert [run.start for run in first.runs] == ["scratch", "clm"]
    law: Any = read_law("cheng2024:clm->mlm")
    assert plan(1e21, "clm->mlm", first_share=0.01).runs[1].loss is None
    assert plan(1e21, "clm->mlm", law="cheng2024:mlm").runs[1].loss is None
    assert sum(run.flops for run in first.runs) == pytest.approx(6 * first.num_parameters * first.num_tokens)
    assert first.runs[1].loss == pytest.approx(law.transfer.at(6 * first.num_parameters * 0.8 * alone.num_tokens))


@settings(max_examples=20)
@given(hours=st.floats(1e2, 1e7), mfu=st.floats(0.1, 1.0))
def test_hours_come_back_as_hours(hours: float, mfu: float) -> None:
    planned = plan(gpu_hours=hours, gpu="a100-80", mfu=mfu, balance="tokens")
    assert planned.gpu_hours == pytest.approx(hours)


@settings(max_examples=20)
@given(flops=BUDGETS, objective=st.sampled_from(["mlm", "clm"]))
def test_intervals_hold_what_they_are_of(flops: float, objective: Any) -> None:
    planned = plan(flops, objective)
    (run,) = planned.runs
    for value, interval in (
        (planned.num_parameters, planned.parameters_interval),
        (run.num_tokens, run.tokens_interval),
        (run.loss, run.loss_interval),
    ):
        assert value is not None and interval is not None
        assert interval[0] <= value <= interval[1]


def test_cautions_come_where_they_are_due() -> None:
    (own,) = plan(1e19, "mlm", max_unique_tokens=1e12).cautions
    assert own.startswith("cheng2024:mlm: Its ranges")
    said = " ".join(plan(1e23, "mlm", max_unique_tokens=1e10).cautions)
    for part in ("100 times the largest", "past 1e22", "each is seen", "got worse", "ProteinGym"):
        assert part in said
    assert "less than the least" in " ".join(plan(1e17, "clm").cautions)
    assert "text" in " ".join(plan(1e21, "mlm", law="hoffmann2022").cautions)
    first, more = (" ".join(plan(1e20, "clm->mlm", first_share=share).cautions) for share in (0.1, 0.4))
    assert "10 % gains" in first and "was not measured" in more
    assert "30 % does NOT gain" in " ".join(plan(1e20, "clm->mlm", first_share=0.3).cautions)
    assert not [said for said in plan(1e19, "mlm", max_unique_tokens=1e12).cautions if "each is seen" in said]
    assert [said for said in plan(1e19, "mlm", max_unique_tokens=4e10).cautions if "each is seen 1." in said]
    assert "trains on one so far" in " ".join(plan(1.68e22, "mlm").cautions)


def test_tokens_seen_once_give_the_larger_model() -> None:
    planned = plan(1e20, "mlm", max_unique_tokens=1e10, balance="tokens")
    once = 1e20 / (6 * 1e10)
    assert f"{once / 1e9:,.3g}B parameters" in planned.cautions[1]


def test_contrary_growth_starts_where_the_law_does() -> None:
    planned, start = plan(1e21, "mlm"), plan(1e18, "mlm")
    assert planned.contrary is not None
    assert planned.contrary.num_parameters == pytest.approx(start.num_parameters * 1000**0.27)
    assert planned.contrary.num_tokens == pytest.approx(start.num_tokens * 1000**0.71)
    assert plan(1e21, "clm").contrary is None


def test_memory_is_shared() -> None:
    alone, many = plan(1.68e22, "mlm"), plan(1.68e22, "mlm", num_gpus=64)
    assert many.memory.states == pytest.approx(alone.memory.states / 64, abs=1)
    assert alone.memory.states == 16 * count_parameters(alone.shape.config(1024))
    assert alone.memory.states == pytest.approx(16 * alone.shape.num_parameters, rel=0.01)
    assert alone.least_gpus == many.least_gpus == 3
    assert alone.memory.activations == (2 * 47 + 34) * 4352 * 1024
    assert plan(1e27, "mlm", gpu="RTX-4090").least_gpus is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "one budget is needed"),
        ({"flops": 1e20, "gpu_hours": 1.0}, "both came"),
        ({"flops": 0.0}, "positive and finite"),
        ({"flops": float("inf")}, "positive and finite"),
        ({"flops": 1e10}, "larger budget"),
        ({"flops": 1e45}, "beyond any law"),
        ({"flops": 1e20, "gpu": "abacus"}, "no device"),
        ({"flops": 1e20, "gpu": "CPU-core"}, "no GPU"),
        ({"flops": 1e20, "mfu": 40.0}, "share of the peak"),
        ({"flops": 1e20, "law": "serrano2024"}, "nothing of the best size"),
        ({"flops": 1e20, "law": "cheng2024:clm"}, "MLM is to be planned"),
        ({"flops": 1e20, "law": "chinchilla"}, "hoffmann2022"),
        ({"flops": 1e20, "objective": "both", "law": "hoffmann2022"}, "two laws"),
        ({"flops": 1e20, "first_share": 0.1}, "clm->mlm"),
        ({"flops": 1e20, "objective": "clm->mlm", "first_share": 1.0}, "(0, 1)"),
        ({"flops": 1e20, "max_unique_tokens": 0.0}, "positive"),
        ({"flops": 1e20, "num_gpus": 0}, "at least 1"),
    ],
)
def test_bad_settings_are_one_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan(**options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("objective", ["mlm", "clm", "clm->mlm", "both"])
def test_text_is_narrow(objective: Any) -> None:
    text = str(plan(1.68e22, objective, num_gpus=512, max_unique_tokens=1e10))
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("train ")


def test_written_plan_is_json(tmp_path: Path) -> None:
    planned = plan(1e21, "both")
    write_plan(planned, tmp_path / "plan.json")
    values = json.loads((tmp_path / "plan.json").read_text())
    assert values["num_parameters"] == planned.num_parameters
    assert [run["law"] for run in values["runs"]] == ["cheng2024:clm", "cheng2024:mlm"]
