import json
from pathlib import Path
from typing import Any

import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.protein.scaling_laws.compute_optimal import ComputeOptimalLaw, GrowthLaw, parity
from xtrimogene.protein.scaling_laws.parametric import ParametricLaw
from xtrimogene.protein.scaling_laws.registry import law_names, read_law, write_law
from xtrimogene.protein.scaling_laws.transfer import TransferLaw


@pytest.mark.parametrize("name", law_names())
def test_every_law_is_there_and_goes_through_json(name: str, tmp_path: Path) -> None:
    law = read_law(name)
    assert law.name == name and law.source and law.data and law.caution
    write_law(law, tmp_path / "law.json")
    assert read_law(tmp_path / "law.json") == read_law(str(tmp_path / "law.json")) == law


def compute_optimal(name: str) -> ComputeOptimalLaw:
    law = read_law(name)
    assert isinstance(law, ComputeOptimalLaw)
    return law


def test_the_models_that_the_authors_trained() -> None:
    mlm, clm = compute_optimal("cheng2024:mlm").optimum(1.68e22), compute_optimal("cheng2024:clm").optimum(1.148e22)
    assert (mlm.num_parameters, mlm.num_tokens) == pytest.approx((10.8e9, 265e9), rel=0.01)
    assert (clm.num_parameters, clm.num_tokens) == pytest.approx((7.32e9, 262e9), rel=0.01)
    assert mlm.balance == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("name", "size", "tokens"), [("clm", 3.79, 2.65), ("mlm", 5.97, 1.70)])
def test_ten_times_the_compute(name: str, size: float, tokens: float) -> None:
    law = compute_optimal(f"cheng2024:{name}")
    more, less = law.optimum(1e20), law.optimum(1e19)
    assert more.num_parameters / less.num_parameters == pytest.approx(size, abs=0.005)
    assert more.num_tokens / less.num_tokens == pytest.approx(tokens, abs=0.005)


@pytest.mark.parametrize(("name", "published"), [("mlm", (0.652, 0.851)), ("clm", (0.515, 0.724))])
def test_intervals_are_about_those_published(name: str, published: tuple[float, float]) -> None:
    law = compute_optimal(f"cheng2024:{name}").num_parameters
    assert len(law.refits) == 100
    assert law.exponent_interval(0.95) == pytest.approx(published, abs=0.02)
    low, high = law.interval(1e20) or (0, 0)
    assert low < law.at(1e20) < high


def test_where_mlm_and_clm_want_one_size() -> None:
    same = parity(compute_optimal("cheng2024:clm"), compute_optimal("cheng2024:mlm"))
    assert (same.flops, same.num_parameters) == pytest.approx((7.2e21, 5.6e9), rel=0.01)


def test_the_other_laws() -> None:
    text, growth = read_law("hoffmann2022"), read_law("serrano2024")
    assert isinstance(text, ParametricLaw) and text.objective == "text"
    assert text.parameters_exponent == pytest.approx(0.28 / 0.62)
    assert isinstance(growth, GrowthLaw) and (growth.parameters_exponent, growth.tokens_exponent) == (0.27, 0.71)
    published = read_law("cheng2024:clm:parametric")
    assert isinstance(published, ParametricLaw) and "No optimum" in published.caution
    assert published.parameters_exponent == pytest.approx(0.575, abs=5e-4)
    transfer = read_law("cheng2024:clm->mlm")
    assert isinstance(transfer, TransferLaw) and transfer.published_share == (0.1, 0.2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no law"),
        ('{"kind": "guess"}', "its `kind` must be one of compute_optimal"),
        ('{"kind": ["growth"]}', "holds no law"),
        ('{"kind": "growth", "exponent": 1}', "unknown setting 'exponent'"),
        ('{"kind": "growth"}', "missing"),
    ],
)
def test_a_damaged_file_gives_one_clear_sentence(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "law.json").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_law(tmp_path / "law.json")
    assert "law.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_type_is_said_with_its_place(tmp_path: Path) -> None:
    write_law(read_law("cheng2024:mlm"), tmp_path / "law.json")
    values = json.loads((tmp_path / "law.json").read_text())
    values["num_tokens"]["exponent"] = "half"
    (tmp_path / "law.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="num_tokens.exponent: float is needed, got 'half'"):
        read_law(tmp_path / "law.json")


def test_a_file_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "law.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not JSON"):
        read_law(tmp_path / "law.json")
    with pytest.raises(ConfigError, match="there is no law 'cheng'"):
        read_law("cheng")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_parameters": {"coefficient": -1.0, "exponent": 0.5}}, "the coefficient must be positive"),
        ({"num_tokens": {"coefficient": 1.0, "exponent": 20.0}}, "exponent lie between"),
        ({"num_tokens": {"coefficient": float("nan"), "exponent": 0.5}}, "the coefficient must be positive"),
        ({"fitted_flops": [1e21, 1e18]}, "a positive budget and a larger one"),
        ({"objective": "MLM"}, "one of 'mlm', 'clm', 'text'"),
    ],
)
def test_a_law_that_is_none_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    law = tmp_path / "law.json"
    write_law(read_law("cheng2024:mlm"), law)
    law.write_text(json.dumps(json.loads(law.read_text()) | changes))
    with pytest.raises(ConfigError, match=said):
        read_law(law)
