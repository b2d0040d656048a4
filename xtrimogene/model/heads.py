"""What is read off the network besides gene embeddings: an expression value, and a latent cell vector.

The latent head is ours, not the paper's: all values of a cell are predicted THROUGH one vector, so that vector has to
hold what the cell is. It costs next to nothing beside the decoder.
Letters: B cells, M positions, G genes, D encoder width, W = 4 D, E decoder width, L latent width.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xtrimogene.model.linear import Linear


class ExpressionHead(nn.Linear):
    """A gene embedding to one value: log1p of counts per 10,000."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 1)

    def forward(self, x: Float[Tensor, "M E"]) -> Float[Tensor, "M"]:
        return super().forward(x).squeeze(-1)


class LatentHead(nn.Module):
    """A cell's pooled tokens to its latent vector, and that vector to the value of every gene.

    A value is the product of the mixed latent vector and the gene's query, plus the gene's bias: a factor model whose
    cell factors the encoder infers and whose gene factors come from the gene table.

    The vector holds how deeply the cell was read, as that tells how far to believe its counts; predictions use it. What
    is given as a cell's embedding is the vector without ``depth_direction``, the one along which reading a cell less
    deeply moves it most: of unit length once it is known, and zero until then.
    """

    depth_direction: Tensor

    def __init__(self, dim: int, latent_dim: int, num_genes: int) -> None:
        super().__init__()
        self.to_latent = nn.Linear(5 * dim, latent_dim)
        self.expand = nn.Linear(latent_dim, 2 * latent_dim)
        self.contract = nn.Linear(2 * latent_dim, latent_dim)
        self.depth = nn.Linear(1, latent_dim)
        self.gene_query = Linear(dim, latent_dim)
        self.gene_bias = nn.Parameter(torch.empty(num_genes))
        self.register_buffer("depth_direction", torch.zeros(latent_dim))

    def latent(self, pooled: Float[Tensor, "B W"], weighted: Float[Tensor, "B D"]) -> Float[Tensor, "B L"]:
        """From pooling "all" and the mean of the gene tokens weighted by their values.

        In float64 where the device has it: large terms cancel here, and in float32 the last digits of a cell's vector
        would depend on the cells beside it.
        """
        read, head = torch.cat([pooled, weighted], dim=-1), self.to_latent
        if read.device.type == "mps":
            return head(read)
        return nn.functional.linear(read.double(), head.weight.double(), head.bias.double()).float()

    def without_depth(self, latent: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
        """Take ``depth_direction`` out: most of what read depth does to the vector, and not all of it."""
        along = (latent * self.depth_direction).sum(-1, keepdim=True)  # (B, 1), the same whatever the other cells
        return latent - along * self.depth_direction

    def forward(
        self, latent: Float[Tensor, "B L"], target_depth: Float[Tensor, "B"], gene_table: Float[Tensor, "G D"]
    ) -> Float[Tensor, "B G"]:
        mixed = self.contract(nn.functional.gelu(self.expand(latent))) + self.depth(target_depth[:, None])  # (B, L)
        return torch.addmm(self.gene_bias, mixed, self.gene_query(gene_table).T)
