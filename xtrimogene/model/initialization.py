"""All weight initialization, in one place."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xtrimogene.model.attention import LinearAttention
from xtrimogene.model.gene_embedding import GeneEmbedding
from xtrimogene.model.heads import LatentHead
from xtrimogene.model.value_embedding import ValueEmbedding


def initialize(network: nn.Module, seed: int) -> None:
    """Draw every weight from this seed; the global random state is left alone."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5, generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, GeneEmbedding):
            nn.init.normal_(module.table, std=0.5, generator=generator)
        elif isinstance(module, LatentHead):
            nn.init.zeros_(module.gene_bias)
        elif isinstance(module, ValueEmbedding):
            nn.init.normal_(module.bins, std=1.0, generator=generator)
            nn.init.normal_(module.mask, std=1.0, generator=generator)
        elif isinstance(module, LinearAttention):
            module.projection.copy_(draw_projection(*module.projection.shape, generator=generator))
    for module in network.modules():
        if isinstance(module, ValueEmbedding):
            # log1p values run from 0 to ~9: spread the kinks of the first layer over that range
            nn.init.uniform_(module.to_bins.weight, -1.0, 1.0, generator=generator)
            nn.init.uniform_(module.to_bins.bias, -3.0, 3.0, generator=generator)
        elif isinstance(module, LatentHead):
            nn.init.zeros_(module.depth.weight)


def redraw_projections(network: nn.Module, generator: torch.Generator) -> None:
    """Draw fresh FAVOR+ features, as training does now and then."""
    for module in network.modules():
        if isinstance(module, LinearAttention):
            module.projection.copy_(draw_projection(*module.projection.shape, generator=generator))


def draw_projection(num_features: int, dim: int, *, generator: torch.Generator) -> Float[Tensor, "m d"]:
    """Orthogonal Gaussian features: orthogonal in blocks of ``dim`` rows, each row as long as a Gaussian vector.

    Source: Choromanski et al., Rethinking Attention with Performers, 2021.
    """
    blocks = []
    for start in range(0, num_features, dim):
        square = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
        orthogonal = torch.linalg.qr(square).Q.T
        blocks.append(orthogonal[: num_features - start])
    lengths = torch.randn(num_features, dim, generator=generator, dtype=torch.float64).norm(dim=1)
    return (lengths[:, None] * torch.cat(blocks)).float()
