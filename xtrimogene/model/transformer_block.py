"""One layer of the encoder and one of the decoder."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from xtrimogene.config import DecoderConfig, EncoderConfig
from xtrimogene.model.attention import LinearAttention, SoftmaxAttention
from xtrimogene.model.checkpointing import CheckpointedBlock
from xtrimogene.model.linear import Linear
from xtrimogene.model.rowwise import in_shares, shares
from xtrimogene_kernels.linear_attention.streamed import KeySums
from xtrimogene_kernels.segments import Segments


class EncoderBlock(CheckpointedBlock):
    """Exact attention and a ReLU feed-forward, pre-norm (ours) or post-norm (the released scFoundation)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.dropout = config.dropout
        self.attention = SoftmaxAttention(config.dim, config.num_heads)
        self.attention_norm = nn.LayerNorm(config.dim)
        self.expand = Linear(config.dim, 4 * config.dim)
        self.contract = Linear(4 * config.dim, config.dim)
        self.feed_forward_norm = nn.LayerNorm(config.dim)

    def forward(self, x: Float[Tensor, "N D"], segments: Segments) -> Float[Tensor, "N D"]:
        return self.run("layer", self._layer, x, segments)

    def _layer(self, x: Tensor, segments: Segments) -> Tensor:
        if self.norm_first:
            x = x + self._drop(self.attention(self.attention_norm(x), segments))
            return x + self._drop(self.run("feed_forward", self._norm_and_feed_forward, x))
        x = self.attention_norm(x + self._drop(self.attention(x, segments)))
        return self.feed_forward_norm(x + self._drop(self.run("feed_forward", self._feed_forward, x)))

    def _norm_and_feed_forward(self, x: Tensor) -> Tensor:
        return self._feed_forward(self.feed_forward_norm(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.contract(self._drop(self.expand(x, "relu")))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class DecoderBlock(CheckpointedBlock):
    """FAVOR+ attention and a GELU feed-forward, pre-norm."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.dim)
        self.attention = LinearAttention(config.dim, config.num_heads, config.num_features)
        self.feed_forward_norm = nn.LayerNorm(config.dim)
        self.expand = Linear(config.dim, 4 * config.dim)
        self.contract = Linear(4 * config.dim, config.dim)

    def forward(
        self,
        x: Float[Tensor, "N D"],
        segments: Segments,
        rows: Int64[Tensor, "M"] | None = None,
        row_segments: Segments | None = None,
        read: Sequence[Float[Tensor, "N D"]] = (),
    ) -> Float[Tensor, "M D"]:
        """Return the layer's output at ``rows`` (default: all).

        ``read``: what `read` says of all rows, where it is known.
        """
        return self.run("layer", self._layer, x, segments, rows, row_segments, read)

    def read(
        self, x: Float[Tensor, "N D"], rows: Int64[Tensor, "M"] | None = None
    ) -> tuple[Float[Tensor, "M D"], Float[Tensor, "N D"], Float[Tensor, "N D"]]:
        """Return queries (at ``rows``; default: all), keys and values: of each row by itself."""
        return self.attention.read(self.attention_norm(x), rows)

    def _layer(
        self,
        x: Tensor,
        segments: Segments,
        rows: Tensor | None,
        row_segments: Segments | None,
        read: Sequence[Tensor],
    ) -> Tensor:
        if in_shares(x):
            return self._layer_in_shares(x, segments, rows, row_segments or segments, read)
        query, key, value = read or self.read(x, rows)
        if rows is not None:
            x, query = x[rows], (query[rows] if read else query)
        attended = self.attention(query, key, value, row_segments or segments, segments)  # (M, D)
        return self._finish(attended, x)

    def _layer_in_shares(
        self,
        x: Tensor,
        segments: Segments,
        rows: Tensor | None,
        row_segments: Segments,
        read: Sequence[Tensor],
    ) -> Tensor:
        """As `_layer`; but for ``x`` and what is returned, no tensor has all rows."""
        attention, width = self.attention, x.shape[1]
        heads = (attention.num_heads, -1)
        maps, out = attention.feature_maps(), x.new_empty((row_segments.num_rows, width))
        for cell in range(segments.num_segments):
            keys = KeySums(maps)
            for share in shares(segments.rows_between(cell, cell + 1), width):
                if read:
                    key, value = read[1][share], read[2][share]
                else:
                    normed = self.attention_norm(x[share])
                    key, value = attention.key(normed), attention.value(normed)
                keys.add(torch.unflatten(key, -1, heads), torch.unflatten(value, -1, heads))
            state = keys.state()
            for share in shares(row_segments.rows_between(cell, cell + 1), width):
                at = share if rows is None else rows[share]
                own = x[at]
                query = read[0][at] if read else attention.query(self.attention_norm(own))
                out[share] = self._finish(state.attend(torch.unflatten(query, -1, heads)).flatten(1), own)
        return out

    def _finish(self, attended: Tensor, x: Tensor) -> Tensor:
        x = x + self.attention.out(attended)
        return x + self.run("feed_forward", self._feed_forward, x)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.contract(self.expand(self.feed_forward_norm(x), "gelu"))
