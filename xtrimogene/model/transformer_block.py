"""One layer of the encoder and one of the decoder."""

from collections.abc import Sequence

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from xtrimogene.config import DecoderConfig, EncoderConfig
from xtrimogene.model.attention import LinearAttention, SoftmaxAttention
from xtrimogene.model.checkpointing import CheckpointedBlock
from xtrimogene.model.rowwise import rowwise
from xtrimogene_kernels.segments import Segments


class EncoderBlock(CheckpointedBlock):
    """Exact attention and a ReLU feed-forward, pre-norm (ours) or post-norm (the released scFoundation)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.dropout = config.dropout
        self.attention = SoftmaxAttention(config.dim, config.num_heads)
        self.attention_norm = nn.LayerNorm(config.dim)
        self.expand = nn.Linear(config.dim, 4 * config.dim)
        self.contract = nn.Linear(4 * config.dim, config.dim)
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
        return self.contract(self._drop(F.relu(self.expand(x), inplace=True)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class DecoderBlock(CheckpointedBlock):
    """FAVOR+ attention and a GELU feed-forward, pre-norm."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.dim)
        self.attention = LinearAttention(config.dim, config.num_heads, config.num_features)
        self.feed_forward_norm = nn.LayerNorm(config.dim)
        self.expand = nn.Linear(config.dim, 4 * config.dim)
        self.contract = nn.Linear(4 * config.dim, config.dim)

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
        query, key, value = read or self.read(x, rows)
        if rows is not None:
            x, query = x[rows], (query[rows] if read else query)
        attended = self.attention(query, key, value, row_segments or segments, segments)  # (M, D)
        return rowwise(self._finish, attended, x)

    def _finish(self, attended: Tensor, x: Tensor) -> Tensor:
        x = x + self.attention.out(attended)
        return x + self.run("feed_forward", self._feed_forward, x)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.contract(F.gelu(self.expand(self.feed_forward_norm(x))))
