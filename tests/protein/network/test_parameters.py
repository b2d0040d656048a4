"""Closed forms against the network itself and torch's own counter."""

from typing import get_args

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from xtrimogene.config import ActivationCheckpointing
from xtrimogene.model.checkpointing import set_activation_checkpointing
from xtrimogene.protein.config import ProteinConfig
from xtrimogene.protein.examples.example import Example, no_labels, source_positions
from xtrimogene.protein.network import prefix_mask, protein_lm
from xtrimogene.protein.network.packed_sequences import PackedSequences
from xtrimogene.protein.network.parameters import (
    count_parameters,
    forward_flops,
    non_embedding_parameters,
    training_flops,
    transformer_parameters,
)
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene_kernels.varlen_attention import reference

CONFIGS = [
    ProteinConfig(dim=48, num_layers=3, num_heads=4, vocabulary_size=40),
    ProteinConfig(dim=32, num_layers=1, num_heads=2, feed_forward_dim=100),
    ProteinConfig(dim=768, num_layers=12, num_heads=12),
    ProteinConfig(dim=4352, num_layers=47, num_heads=34),
]
BATCHES = [([7, 1, 30], None), ([7, 1, 30], [7, 0, 11]), ([9], [0]), ([9, 4], [9, 4])]


@pytest.fixture(autouse=True)
def reference_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch counts nothing for a CPU's scaled_dot_product_attention."""
    for module in (protein_lm, prefix_mask):
        monkeypatch.setattr(module, "varlen_attention", reference.varlen_attention)


def batch(lengths: list[int], prefixes: list[int] | None) -> PackedSequences:
    pairs = zip(lengths, prefixes or lengths, strict=True)
    examples = [Example(no_labels(n) * 0, source_positions(n), no_labels(n), p) for n, p in pairs]
    return PackedSequences.from_examples(examples).to("meta")


@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_are_those_of_the_network(config: ProteinConfig) -> None:
    with torch.device("meta"):
        network = ProteinLM(config, seed=None)
    sizes = {name: weight.numel() for name, weight in network.named_parameters()}
    assert count_parameters(config) == sum(sizes.values())
    tables = sizes["token_embedding.weight"] + sizes["head.weight"]
    assert non_embedding_parameters(config) == sum(sizes.values()) - tables


def test_the_laws_count_12_l_d2() -> None:
    assert transformer_parameters(47, 4352) == 10_682_105_856
    assert transformer_parameters(36, 4096) == 7_247_757_312
    assert transformer_parameters(12, 768) == 84_934_656
    for config in CONFIGS[2:]:
        ours = non_embedding_parameters(config)
        assert ours == pytest.approx(transformer_parameters(config.num_layers, config.dim), rel=0.003)


@pytest.mark.parametrize("config", CONFIGS[:3])
@pytest.mark.parametrize(("lengths", "prefixes"), BATCHES)
def test_operations_of_a_pass(config: ProteinConfig, lengths: list[int], prefixes: list[int] | None) -> None:
    with torch.device("meta"):
        network = ProteinLM(config, seed=None)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(batch(lengths, prefixes))
    assert counter.get_total_flops() == forward_flops(config, lengths, prefixes)


@pytest.mark.parametrize("mode", get_args(ActivationCheckpointing))
@pytest.mark.parametrize(("lengths", "prefixes"), BATCHES)
def test_operations_of_a_training_step(
    lengths: list[int], prefixes: list[int] | None, mode: ActivationCheckpointing
) -> None:
    config = CONFIGS[0]
    with torch.device("meta"):
        network = ProteinLM(config, seed=None).train()
    set_activation_checkpointing(network, mode)
    with FlopCounterMode(display=False) as counter:
        network(batch(lengths, prefixes)).sum().backward()
    assert counter.get_total_flops() == training_flops(config, lengths, prefixes, checkpointing=mode)


def test_a_token_costs_six_operations_a_weight_and_its_attention() -> None:
    config, length = CONFIGS[2], 1_024
    weights = non_embedding_parameters(config) - (2 * config.num_layers + 1) * config.dim
    head = config.vocabulary_size * config.dim
    attention = 12 * config.num_layers * config.dim * length
    assert training_flops(config, [length]) == length * (6 * (weights + head) + attention)
