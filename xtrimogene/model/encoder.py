"""The encoder: reads only the genes a cell expresses."""

from jaxtyping import Float
from torch import Tensor, nn

from xtrimogene.config import EncoderConfig
from xtrimogene.model.transformer_block import EncoderBlock
from xtrimogene_kernels.segments import Segments


class Encoder(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, x: Float[Tensor, "N D"], segments: Segments) -> Float[Tensor, "N D"]:
        for block in self.blocks:
            x = block(x, segments)
        return self.norm(x)
