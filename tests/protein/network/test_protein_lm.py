"""Packed against padded, what a position means, and what the seed decides."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrimogene.model.checkpointing import set_activation_checkpointing
from xtrimogene.protein.config import ProteinConfig
from xtrimogene.protein.examples.example import Example
from xtrimogene.protein.network.key_value_cache import LayerCache
from xtrimogene.protein.network.packed_sequences import PackedSequences, pack_labels
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.network.rotary import Rotation

SHAPES = [(7, 7), (1, 1), (12, 0), (30, 11), (1, 0), (25, 25), (3, 2)]


@torch.no_grad()
def test_packed_is_padded(tiny: ProteinLM, make_example: Callable, padded_logits: Callable) -> None:
    examples = [make_example(*shape) for shape in SHAPES]
    packed = tiny(PackedSequences.from_examples(examples)).split([length for length, _ in SHAPES])
    for ours, padded in zip(packed, padded_logits(tiny, examples), strict=True):
        torch.testing.assert_close(ours, padded, atol=1e-5, rtol=0)


def test_packed_is_padded_in_its_gradients(make_example: Callable, padded_logits: Callable) -> None:
    network = ProteinLM(ProteinConfig(dim=16, num_layers=2, num_heads=2, vocabulary_size=40), seed=2).double()
    examples = [make_example(*shape) for shape in SHAPES]
    network(PackedSequences.from_examples(examples)).square().sum().backward()
    ours = {name: weight.grad for name, weight in network.named_parameters()}
    network.zero_grad()
    torch.cat(padded_logits(network, examples)).square().sum().backward()
    for name, weight in network.named_parameters():
        # angles are of single precision
        torch.testing.assert_close(ours[name], weight.grad, atol=1e-4, rtol=1e-4)


@settings(max_examples=20)
@given(st.permutations(range(len(SHAPES))))
@torch.no_grad()
def test_a_sequence_ignores_its_neighbours(
    tiny: ProteinLM, make_example: Callable[..., Example], order: list[int]
) -> None:
    examples = [make_example(*SHAPES[i]) for i in order]
    together = tiny(PackedSequences.from_examples(examples)).split([SHAPES[i][0] for i in order])
    for ours, example in zip(together, examples, strict=True):
        torch.testing.assert_close(ours, tiny(PackedSequences.from_examples([example])), atol=1e-5, rtol=0)


@torch.no_grad()
def test_positions_are_relative_in_both_coordinates_and_do_matter(tiny: ProteinLM, make_example: Callable) -> None:
    example = make_example(12, 5)
    logits = tiny(PackedSequences.from_examples([example]))
    moved = replace(example, positions=example.positions + [7, 3])
    torch.testing.assert_close(tiny(PackedSequences.from_examples([moved])), logits, atol=1e-4, rtol=0)
    for step in ([1, 0], [0, 1]):
        positions = example.positions + np.outer(np.arange(12), step)
        other = tiny(PackedSequences.from_examples([replace(example, positions=positions)]))
        assert (other - logits).abs().max() > 0.01


def test_a_rotation_turns_its_half_of_the_channels() -> None:
    ones = torch.ones(1, 1, 8)
    first = Rotation.from_positions(torch.tensor([[2, 0]]), 8).turn(ones)[0, 0]
    second = Rotation.from_positions(torch.tensor([[0, 2]]), 8).turn(ones)[0, 0]
    angles = torch.tensor([2.0, 2.0 * 10_000**-0.5])
    turned = torch.cat([angles.cos() - angles.sin(), angles.cos() + angles.sin()])
    torch.testing.assert_close(first, torch.cat([turned, torch.ones(4)]))
    torch.testing.assert_close(second, torch.cat([torch.ones(4), turned]))


@pytest.mark.parametrize("shape", [(9, 9), (9, 4), (9, 0)])
@torch.no_grad()
def test_a_cache_goes_on_where_the_prefix_ended(
    tiny: ProteinLM, make_example: Callable, shape: tuple[int, int]
) -> None:
    """Tokens that come one by one get what they get all at once, in two sequences side by side."""
    source = make_example(*shape)
    rest = make_example(4, 0)
    whole = Example(
        np.concatenate([source.token_ids, rest.token_ids]),
        np.concatenate([source.positions, rest.positions]),
        np.concatenate([source.labels, rest.labels]),
        source.prefix_length,
    )
    expected = tiny.hidden(PackedSequences.from_examples([whole]))
    caches = [LayerCache() for _ in tiny.blocks]
    hidden = [tiny.hidden(PackedSequences.from_examples([source]), caches)]
    for cache in caches:
        cache.select(torch.tensor([0, 0]))
    for i in range(4):
        one = Example(rest.token_ids[i : i + 1], rest.positions[i : i + 1], rest.labels[i : i + 1], 0)
        both = tiny.hidden(PackedSequences.from_examples([one, one]), caches)
        assert torch.equal(both[0], both[1])
        hidden.append(both[:1])
    torch.testing.assert_close(torch.cat(hidden), expected, atol=1e-5, rtol=0)


def test_weights_are_the_seeds_and_the_global_state_is_left_alone() -> None:
    config = ProteinConfig(dim=16, num_layers=1, num_heads=2)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    with torch.device("meta"):
        ProteinLM(config, seed=None)
    assert torch.equal(torch.rand(1), expected)
    first, second, other = (ProteinLM(config, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if "norm" not in name)
    assert not [name for name in first if name.endswith("bias")]


@pytest.mark.parametrize("mode", ["feed_forward", "layer"])
def test_activation_checkpointing_changes_no_gradient(mode: str, make_example: Callable) -> None:
    packed = PackedSequences.from_examples([make_example(9, 4), make_example(5, 5)])
    gradients = []
    for chosen in ("none", mode):
        network = ProteinLM(ProteinConfig(dim=16, num_layers=2, num_heads=2), seed=0).train()
        set_activation_checkpointing(network, chosen)
        network(packed).square().sum().backward()
        gradients.append({name: weight.grad for name, weight in network.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


def test_nothing_packed_is_nothing_read(tiny: ProteinLM) -> None:
    empty = PackedSequences.from_ids([])
    assert tiny(empty).shape == (0, 40)
    assert pack_labels([]).shape == (0,)


def test_a_batch_moves_whole(make_example: Callable) -> None:
    moved = PackedSequences.from_examples([make_example(9, 4)]).to("meta")
    assert all(part.is_meta for part in (moved.token_ids, moved.positions, moved.segments.cu_seqlens))
