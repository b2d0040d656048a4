"""Embed a real-valued expression level as a soft mix of learned bins (auto-discretization, xTrimoGene).

Letters: N values of all cells, packed; K bins; D width.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xtrimogene_kernels.value_embedding import value_embedding


class ValueEmbedding(nn.Module):
    """h = LeakyReLU(W1 x + b1); p = softmax(alpha h + W2 h + b2); the embedding is p @ bins.

    Zero has no parameter of its own; a hidden value has: ``mask``.
    """

    def __init__(self, dim: int, num_bins: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.to_bins = nn.Linear(1, num_bins)
        self.mix_bins = nn.Linear(num_bins, num_bins)
        self.bins = nn.Parameter(torch.empty(num_bins, dim))
        self.mask = nn.Parameter(torch.empty(dim))

    def forward(self, values: Float[Tensor, "N"]) -> Float[Tensor, "N D"]:
        return value_embedding(
            values,
            self.to_bins.weight,
            self.to_bins.bias,
            self.mix_bins.weight,
            self.mix_bins.bias,
            self.bins,
            alpha=self.alpha,
        )

    def shown(self, values: Float[Tensor, "M"]) -> Float[Tensor, "M D"]:
        """As forward, with the mask row where a value is NaN."""
        hidden = values.isnan()
        return torch.where(hidden[:, None], self.mask.to(self.bins.dtype), self(values.masked_fill(hidden, 0.0)))
