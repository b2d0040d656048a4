import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xtrimogene.config import EncoderConfig, EncoderPrecision, ModelConfig
from xtrimogene.errors import ConfigError
from xtrimogene.model import lower_precision as module
from xtrimogene.model.lower_precision import Int8Linear, lower_precision, to_int8
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene_kernels.segments import Segments

pytestmark = pytest.mark.filterwarnings("ignore:precision='(bfloat16|int8)' is several times slower")
CPU = torch.device("cpu")
NETWORK = XTrimoGene(ModelConfig(num_genes=50, encoder=EncoderConfig(dim=64, num_layers=3, num_heads=4))).eval()
NETWORK.requires_grad_(False)


def tokens(num_rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_rows, 64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("precision", "most"), [("bfloat16", 0.015), ("int8", 0.02)])
def test_the_error_is_small_and_not_nothing(precision, most) -> None:
    segments, x = Segments.from_lengths([70, 30]), tokens(100)
    exact = NETWORK.encoder(x, segments)
    found = lower_precision(NETWORK, precision, CPU).encoder(x, segments)
    assert found.dtype == torch.float32
    assert 1e-4 < float((found - exact).norm() / exact.norm()) < most


def test_float32_is_the_network_itself_and_others_leave_it_alone() -> None:
    before = {name: weight.clone() for name, weight in NETWORK.state_dict().items()}
    assert lower_precision(NETWORK, "float32", CPU) is NETWORK
    for precision in ("bfloat16", "int8"):
        lower = lower_precision(NETWORK, precision, CPU)
        assert lower.gene_embedding.table.dtype == torch.float32
    assert all(torch.equal(weight, NETWORK.state_dict()[name]) for name, weight in before.items())


def test_int8_is_the_products_of_the_rounded_numbers() -> None:
    linear = nn.Linear(64, 24)
    x = tokens(600) * torch.logspace(-3, 3, 600)[:, None]  # over more than one chunk, each row of its own size
    (rows, row_scale), (weight, weight_scale) = to_int8(x), to_int8(linear.weight.detach())
    expected = (rows.double() * row_scale) @ (weight.double() * weight_scale).T + linear.bias.double()
    error = (Int8Linear(linear)(x).double() - expected).abs().amax(1) / expected.abs().amax(1)
    assert error.max() < 1e-5
    assert (rows.double() * row_scale - x).abs().max(1).values.div(row_scale[:, 0]).max() <= 0.5 + 1e-4


def test_a_row_of_zeros_gives_the_bias() -> None:
    linear = nn.Linear(64, 24)
    assert torch.equal(Int8Linear(linear)(torch.zeros(3, 64)), linear.bias.detach().expand(3, -1))
    assert Int8Linear(linear)(torch.zeros(0, 64)).shape == (0, 24)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=5), st.sampled_from([1.0, 100.0]))
def test_a_cell_does_not_depend_on_its_batch(lengths: list[int], size: float) -> None:
    encoder = lower_precision(NETWORK, "int8", CPU).encoder
    cells = [tokens(length, seed) * (size if seed else 1.0) for seed, length in enumerate(lengths)]
    together = encoder(torch.cat(cells), Segments.from_lengths(lengths))[: lengths[0]]
    alone = encoder(cells[0], Segments.from_lengths(lengths[:1]))
    assert float((together - alone).norm() / alone.norm()) < 0.005, (
        "a rounding that tips over, never the neighbours' scale"
    )


def said(precision: EncoderPrecision) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lower_precision(NETWORK, precision, CPU)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(("capability", "slow"), [("AVX2", True), ("AVX512", False), ("DEFAULT", False)])
def test_said_where_bfloat16_is_slower(capability: str, slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert ["has no AVX-512; use 'float32'" in one for one in said("bfloat16")] == [True] * slow


@pytest.mark.parametrize(
    ("found", "slow"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx_vnni": False}, True),
        ({"architecture": "x86_64", "avx2": True, "avx_vnni": True}, False),
        ({"architecture": "x86_64", "avx512_vnni": True}, False),
        ({"architecture": "aarch64", "dot": False}, False),
    ],
)
def test_said_where_int8_is_slower(found: dict[str, Any], slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert ["has no VNNI; use 'float32'" in one for one in said("int8")] == [True] * slow


def test_an_older_torch_says_nothing_of_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert said("int8") == []


def test_refused_where_it_cannot_be_right(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="precision='int8' is for a CPU, not cuda; use 'bfloat16'"):
        lower_precision(NETWORK, "int8", torch.device("cuda"))
    monkeypatch.setattr(torch, "_int_mm", lambda rows, weight: torch.full((32, 32), 32767))
    assert not module.int8_is_exact()
    with pytest.raises(ConfigError, match="not exact on this processor"):
        lower_precision(NETWORK, "int8", CPU)
