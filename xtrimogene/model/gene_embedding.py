"""One learned row per gene, and one each for the read-depth tokens T and S."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class GeneEmbedding(nn.Module):
    """Rows 0 to num_genes - 1 are genes; then T, the total wanted, and S, the total seen."""

    def __init__(self, num_genes: int, dim: int) -> None:
        super().__init__()
        self.num_genes = num_genes
        self.table = nn.Parameter(torch.empty(num_genes + 2, dim))

    @property
    def target_depth_id(self) -> int:
        return self.num_genes

    @property
    def source_depth_id(self) -> int:
        return self.num_genes + 1

    def forward(self, gene_ids: Int64[Tensor, "N"]) -> Float[Tensor, "N D"]:
        return nn.functional.embedding(gene_ids, self.table)
