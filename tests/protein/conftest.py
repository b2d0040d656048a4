"""A tiny model, random examples, and the padded network that packing has to agree with."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from xtrimogene.protein.config import ProteinConfig
from xtrimogene.protein.examples.example import Example, no_labels
from xtrimogene.protein.network.protein_lm import ProteinLM

TINY = ProteinConfig(dim=32, num_layers=2, num_heads=2, vocabulary_size=40, max_length=64)


@pytest.fixture(scope="session")
def tiny() -> ProteinLM:
    return ProteinLM(TINY, seed=1).eval()


@pytest.fixture(scope="session")
def make_example() -> Callable[..., Example]:
    """Return a builder of random tokens at random positions."""

    def build(length: int, prefix_length: int, seed: int = 0) -> Example:
        random = np.random.default_rng([seed, length, prefix_length])
        tokens = random.integers(0, TINY.vocabulary_size, length)
        return Example(tokens, random.integers(0, 50, (length, 2)), no_labels(length), prefix_length)

    return build


@pytest.fixture(scope="session")
def padded_logits() -> Callable[[ProteinLM, Sequence[Example]], list[Tensor]]:
    """Return the network written out on padded rows, with a mask: what it means, and what is not in the package."""

    def run(network: ProteinLM, examples: Sequence[Example]) -> list[Tensor]:
        longest = max(len(example.token_ids) for example in examples)
        tokens = torch.zeros(len(examples), longest, dtype=torch.int64)
        positions = torch.zeros(len(examples), longest, 2)
        seen = torch.zeros(len(examples), longest, longest, dtype=torch.bool)
        seen[:, :, 0] = True  # or the rows of the padding would see nothing
        for i, example in enumerate(examples):
            length = len(example.token_ids)
            tokens[i, :length] = torch.from_numpy(example.token_ids)
            positions[i, :length] = torch.from_numpy(example.positions)
            for query in range(length):
                seen[i, query, : max(query + 1, example.prefix_length if query < example.prefix_length else 0)] = True
        logits = _padded(network, tokens, positions, seen)
        return [rows[: len(example.token_ids)] for rows, example in zip(logits, examples, strict=True)]

    return run


def _padded(network: ProteinLM, tokens: Tensor, positions: Tensor, seen: Tensor) -> Tensor:
    config = network.config
    head_dim = config.dim // config.num_heads
    frequencies = 10_000.0 ** (-torch.arange(head_dim // 4) / (head_dim / 4))
    # a complex number a pair of channels: the first half of the pairs turns by position 1, the others by position 2
    angles = (positions[..., None] * frequencies).flatten(-2)  # (B, n, d / 2)
    turn = torch.polar(torch.ones_like(angles), angles)[:, :, None]

    def rotate(x: Tensor) -> Tensor:
        parts = x.unflatten(-1, (2, 2, -1))  # (B, n, H, position, part of the pair, frequency)
        turned = torch.complex(parts[..., 0, :], parts[..., 1, :]).flatten(-2) * turn
        return torch.stack([turned.real, turned.imag], -2).unflatten(-1, (2, -1)).transpose(-3, -2).flatten(-3)

    x = network.token_embedding(tokens)
    for block in network.blocks:
        heads = block.attention.qkv(block.attention_norm(x)).unflatten(-1, (3, config.num_heads, head_dim))
        query, key, value = heads.unbind(2)
        scores = torch.einsum("bqhd,bkhd->bhqk", rotate(query), rotate(key)) * head_dim**-0.5
        weights = scores.masked_fill(~seen[:, None], -torch.inf).softmax(-1)
        x = x + block.attention.out(torch.einsum("bhqk,bkhd->bqhd", weights, value).flatten(2))
        gate, linear = block.expand(block.feed_forward_norm(x)).chunk(2, -1)
        x = x + block.contract(F.gelu(gate) * linear)
    return network.head(network.final_norm(x))
