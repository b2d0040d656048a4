"""A cheaper decoder, ours: only the genes asked for pass through it, and they attend to what the encoder saw.

The paper's decoder carries every gene of the model through every layer, though the loss reads one in twenty. Here a
gene is a query: its row of the gene table with what is known of its value. Queries do not see each other, so a gene is
answered alike whatever else is asked; which genes are zero is not told. Loss and cost beside the paper's:
benchmarks/decoder_study.py.
Letters: N visible tokens of all cells, packed; M queries; E decoder width.
"""

from jaxtyping import Float
from torch import Tensor, nn

from xtrimogene.config import DecoderConfig
from xtrimogene.model.attention import CrossAttention
from xtrimogene.model.checkpointing import CheckpointedBlock
from xtrimogene.model.linear import Linear
from xtrimogene.model.rowwise import rowwise
from xtrimogene_kernels.segments import Segments


class CrossDecoder(nn.Module):
    """``project`` goes from the encoder's width to the decoder's, and two norms end it, as in ``Decoder``."""

    def __init__(self, encoder_dim: int, config: DecoderConfig) -> None:
        super().__init__()
        self.project = Linear(encoder_dim, config.dim)
        self.blocks = nn.ModuleList(CrossBlock(config) for _ in range(config.num_layers))
        self.inner_norm = nn.LayerNorm(config.dim)
        self.outer_norm = nn.LayerNorm(config.dim)

    def forward(
        self, x: Float[Tensor, "M E"], segments: Segments, memory: Float[Tensor, "N E"], memory_segments: Segments
    ) -> Float[Tensor, "M E"]:
        """Run the queries ``x`` through the layers; both they and ``memory`` are projected already."""
        for block in self.blocks:
            x = block(x, segments, memory, memory_segments)
        return self.outer_norm(self.inner_norm(x))


class CrossBlock(CheckpointedBlock):
    """Exact attention to the memory and a GELU feed-forward, pre-norm."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.dim)
        self.memory_norm = nn.LayerNorm(config.dim)
        self.attention = CrossAttention(config.dim, config.num_heads)
        self.feed_forward_norm = nn.LayerNorm(config.dim)
        self.expand = Linear(config.dim, 4 * config.dim)
        self.contract = Linear(4 * config.dim, config.dim)

    def forward(
        self, x: Float[Tensor, "M E"], segments: Segments, memory: Float[Tensor, "N E"], memory_segments: Segments
    ) -> Float[Tensor, "M E"]:
        return self.run("layer", self._layer, x, segments, memory, memory_segments)

    def _layer(
        self, x: Float[Tensor, "M E"], segments: Segments, memory: Float[Tensor, "N E"], memory_segments: Segments
    ) -> Float[Tensor, "M E"]:
        x = x + self.attention(self.attention_norm(x), segments, self.memory_norm(memory), memory_segments)
        return x + self.run("feed_forward", rowwise, self._norm_and_feed_forward, x)

    def _norm_and_feed_forward(self, x: Float[Tensor, "M E"]) -> Float[Tensor, "M E"]:
        return self.contract(self.expand(self.feed_forward_norm(x), "gelu"))
