"""The kinds of attention: exact over the genes a cell expresses or from genes asked for, FAVOR+ over every gene.

Letters: N tokens of all cells, packed; M query tokens; D width; H heads; d = D / H.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from xtrimogene.model.linear import Linear
from xtrimogene_kernels.linear_attention import linear_attention
from xtrimogene_kernels.linear_attention.streamed import FeatureMaps
from xtrimogene_kernels.segments import Segments
from xtrimogene_kernels.varlen_attention import varlen_attention


class SoftmaxAttention(nn.Module):
    """Exact attention inside each cell, of whatever length."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(dim, 3 * dim)
        self.out = Linear(dim, dim)

    def forward(self, x: Float[Tensor, "N D"], segments: Segments) -> Float[Tensor, "N D"]:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(1)  # (N, H, d) each
        return self.out(varlen_attention(query, key, value, segments, segments).flatten(1))  # (N, D)


class CrossAttention(nn.Module):
    """Exact attention from queries to the tokens of their cell."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(dim, dim)
        self.key = Linear(dim, dim)
        self.value = Linear(dim, dim)
        self.out = Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "M D"], segments: Segments, memory: Float[Tensor, "N D"], memory_segments: Segments
    ) -> Float[Tensor, "M D"]:
        heads = (self.num_heads, -1)
        attended = varlen_attention(
            self.query(x).unflatten(-1, heads),
            self.key(memory).unflatten(-1, heads),
            self.value(memory).unflatten(-1, heads),
            segments,
            memory_segments,
        )  # (M, H, d)
        return self.out(attended.flatten(1))  # (M, D)


class LinearAttention(nn.Module):
    """FAVOR+ softmax attention (Performer). ``projection`` is drawn once, and redrawn by the training loop."""

    projection: Tensor

    def __init__(self, dim: int, num_heads: int, num_features: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(dim, dim)
        self.key = Linear(dim, dim)
        self.value = Linear(dim, dim)
        self.out = Linear(dim, dim)
        self.register_buffer("projection", torch.empty(num_features, dim // num_heads))

    def read(
        self, x: Float[Tensor, "N D"], rows: Int64[Tensor, "M"] | None = None
    ) -> tuple[Float[Tensor, "M D"], Float[Tensor, "N D"], Float[Tensor, "N D"]]:
        """Return the queries of ``rows`` (default: all) and the keys and values of all."""
        return self.query(x if rows is None else x[rows]), self.key(x), self.value(x)

    def feature_maps(self) -> FeatureMaps:
        """Return what `KeySums` reads the rows of a cell by, where they come some at a time."""
        return FeatureMaps(self.projection, self.num_heads, self.projection.dtype)

    def forward(
        self,
        query: Float[Tensor, "M D"],
        key: Float[Tensor, "N D"],
        value: Float[Tensor, "N D"],
        query_segments: Segments,
        key_segments: Segments,
    ) -> Float[Tensor, "M D"]:
        """Attend from each query to every token of the same cell, up to the heads: `out` mixes them."""
        query, key, value = (torch.unflatten(rows, -1, (self.num_heads, -1)) for rows in (query, key, value))
        projection = self.projection.to(query.dtype)
        return linear_attention(query, key, value, projection, query_segments, key_segments).flatten(1)
