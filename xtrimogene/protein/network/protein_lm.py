"""The protein language model: a transformer over packed sequences, for every objective.

Pre-norm blocks of exact attention and GeGLU, without biases. The head is not tied to the embedding: at 128 ids it costs
nothing, and weights that are not embeddings are then counted without it.
Letters: N tokens of all sequences, packed; D width; H heads; d = D / H; V vocabulary.
Source: xTrimoPGLM (arXiv 2401.06199), with pre-norm in place of its DeepNorm.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xtrimogene.model.checkpointing import CheckpointedBlock
from xtrimogene.model.linear import Linear
from xtrimogene.protein.config import ProteinConfig
from xtrimogene.protein.network.key_value_cache import LayerCache
from xtrimogene.protein.network.packed_sequences import PackedSequences
from xtrimogene.protein.network.prefix_mask import PrefixMask, prefix_attention
from xtrimogene.protein.network.rotary import Rotation
from xtrimogene_kernels.varlen_attention import varlen_attention


class ProteinLM(nn.Module):
    """``ProteinLM(config, seed=0)``; keeps no activation between calls. Without a seed no weight is drawn."""

    def __init__(self, config: ProteinConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocabulary_size, config.dim)
        self.blocks = nn.ModuleList(ProteinBlock(config) for _ in range(config.num_layers))
        self.final_norm = nn.LayerNorm(config.dim, bias=False)
        self.head = Linear(config.dim, config.vocabulary_size, bias=False)
        if seed is not None:
            with torch.no_grad():
                _initialize(self, seed)

    def forward(self, packed: PackedSequences) -> Float[Tensor, "N V"]:
        """Return what comes at each token, as logits."""
        return self.head(self.hidden(packed))

    def hidden(self, packed: PackedSequences, caches: Sequence[LayerCache] | None = None) -> Float[Tensor, "N D"]:
        """Return one context vector per token.

        Parameters
        ----------
        caches
            One of each layer: they take in the tokens. Where they hold some already, the sequences go on after those,
            causally.
        """
        rotation = Rotation.from_positions(packed.positions, self.config.dim // self.config.num_heads)
        x = self.token_embedding(packed.token_ids)  # (N, D)
        for layer, block in enumerate(self.blocks):
            x = block(x, rotation, packed.mask, None if caches is None else caches[layer])
        return self.final_norm(x)


class ProteinBlock(CheckpointedBlock):
    def __init__(self, config: ProteinConfig) -> None:
        super().__init__()
        dim, width = config.dim, config.feed_forward_width
        self.attention_norm = nn.LayerNorm(dim, bias=False)
        self.attention = RotaryAttention(dim, config.num_heads)
        self.feed_forward_norm = nn.LayerNorm(dim, bias=False)
        self.expand = Linear(dim, 2 * width, bias=False)
        self.contract = Linear(width, dim, bias=False)

    def forward(
        self, x: Float[Tensor, "N D"], rotation: Rotation, mask: PrefixMask, cache: LayerCache | None = None
    ) -> Float[Tensor, "N D"]:
        return self.run("layer", self._layer, x, rotation, mask, cache)

    def _layer(self, x: Tensor, rotation: Rotation, mask: PrefixMask, cache: LayerCache | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotation, mask, cache)
        return x + self.run("feed_forward", self._feed_forward, x)

    def _feed_forward(self, x: Tensor) -> Tensor:
        gate, linear = self.expand(self.feed_forward_norm(x)).chunk(2, dim=-1)
        return self.contract(F.gelu(gate) * linear)


class RotaryAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(dim, 3 * dim, bias=False)
        self.out = Linear(dim, dim, bias=False)

    def forward(
        self, x: Float[Tensor, "N D"], rotation: Rotation, mask: PrefixMask, cache: LayerCache | None
    ) -> Float[Tensor, "N D"]:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(1)  # (N, H, d) each
        query, key = rotation.turn(query), rotation.turn(key)
        goes_on = cache is not None and cache.rows is not None
        if cache is not None:
            keys, values, key_segments = cache.extend(key, value, mask.segments.num_segments)
        if goes_on:
            attended = varlen_attention(query, keys, values, mask.segments, key_segments, causal=True)
        else:
            attended = prefix_attention(query, key, value, mask)
        return self.out(attended.flatten(1))  # (N, D)


def _initialize(network: ProteinLM, seed: int) -> None:
    """Draw every weight from this seed; what adds to the residual stream begins smaller, the more layers there are."""
    generator = torch.Generator().manual_seed(seed)
    residual = (2 * network.config.num_layers) ** -0.5
    nn.init.normal_(network.token_embedding.weight, std=0.02, generator=generator)  # of 1 it learns slower
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            share = residual if name.endswith(("attention.out", "contract")) else 1.0
            nn.init.trunc_normal_(module.weight, std=share * module.in_features**-0.5, generator=generator)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
