"""The decoder: light, reads every gene, answers where it is asked.

Letters: B cells; G genes; P = G + 2 positions of a cell, BP of all; M positions asked for; D, E encoder, decoder width.
"""

from collections.abc import Sequence

from jaxtyping import Float, Int64
from torch import Tensor, nn

from xtrimogene.config import DecoderConfig
from xtrimogene.model.linear import Linear
from xtrimogene.model.transformer_block import DecoderBlock
from xtrimogene_kernels.segments import Segments


class Decoder(nn.Module):
    """``project`` takes the encoder's width to the decoder's; the output passes two norms, as in the released model."""

    def __init__(self, encoder_dim: int, config: DecoderConfig) -> None:
        super().__init__()
        self.project = Linear(encoder_dim, config.dim)
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.num_layers))
        self.inner_norm = nn.LayerNorm(config.dim)
        self.outer_norm = nn.LayerNorm(config.dim)

    def forward(
        self,
        x: Float[Tensor, "BP E"],
        segments: Segments,
        rows: Int64[Tensor, "M"],
        row_segments: Segments,
        read: Sequence[Float[Tensor, "BP E"]] = (),
    ) -> Float[Tensor, "M E"]:
        """Run all positions through the layers, the last layer only at ``rows``; ``x`` is projected already.

        ``read``: what `read` says of them, where it is known.
        """
        for block in self.blocks[:-1]:
            x, read = block(x, segments, read=read), ()
        x = self.blocks[-1](x, segments, rows, row_segments, read)
        return self.outer_norm(self.inner_norm(x))

    def read(self, x: Float[Tensor, "N E"]) -> tuple[Float[Tensor, "N E"], ...]:
        """Return the queries, keys and values of the first layer: of each position by itself."""
        first = self.blocks[0]
        assert isinstance(first, DecoderBlock)
        return first.read(x)
