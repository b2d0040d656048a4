"""What is read off the network besides gene embeddings: an expression value, and a latent cell vector.

The latent head is ours, not the paper's: hidden values are predicted THROUGH one vector a cell, so that vector has to hold
what the cell is. It costs next to nothing beside the decoder. Letters: B cells, M positions, D encoder width, L latent width.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class ExpressionHead(nn.Linear):
    """A gene embedding to one value: log1p of counts per 10,000."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 1)

    def forward(self, x: Float[Tensor, "M E"]) -> Float[Tensor, "M"]:
        return super().forward(x).squeeze(-1)


class LatentHead(nn.Module):
    """A cell's pooled tokens to its latent vector, and that vector with a gene's row to a predicted value."""

    def __init__(self, dim: int, latent_dim: int) -> None:
        super().__init__()
        self.to_latent = nn.Linear(4 * dim, latent_dim)
        self.gene_query = nn.Linear(dim, latent_dim)
        self.expand = nn.Linear(3 * latent_dim, latent_dim)
        self.to_value = nn.Linear(latent_dim, 1)

    def latent(self, pooled: Float[Tensor, "B 4D"]) -> Float[Tensor, "B L"]:
        return self.to_latent(pooled)  # type: ignore[no-any-return]

    def forward(
        self, latent: Float[Tensor, "B L"], cells: Int64[Tensor, "M"], gene_rows: Float[Tensor, "M D"]
    ) -> Float[Tensor, "M"]:
        queries = self.gene_query(gene_rows)  # (M, L)
        cell = latent[cells]  # (M, L)
        hidden = nn.functional.gelu(self.expand(torch.cat([cell, queries, cell * queries], dim=-1)))  # (M, L)
        return self.to_value(hidden).squeeze(-1)  # type: ignore[no-any-return]
