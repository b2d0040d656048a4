"""Embed each distinct value once, then gather: a cell has some thirty distinct values and a thousand genes.

Letters: N values of all cells, packed; U distinct ones; K bins; D width.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from xtrimogene_kernels.value_embedding import reference


def value_embedding(
    values: Float[Tensor, "N"],
    in_weight: Float[Tensor, "K 1"],
    in_bias: Float[Tensor, "K"],
    mix_weight: Float[Tensor, "K K"],
    mix_bias: Float[Tensor, "K"],
    bins: Float[Tensor, "K D"],
    *,
    alpha: float = 1.0,
) -> Float[Tensor, "N D"]:
    precise = torch.promote_types(bins.dtype, torch.float32)
    weights = [weight.to(precise) for weight in (in_weight, in_bias, mix_weight, mix_bias, bins)]
    # Compared as integers: exact, and twice as fast as comparing floats.
    bits = values.to(precise).contiguous().view(torch.int64 if precise == torch.float64 else torch.int32)
    distinct, index = torch.unique(bits, return_inverse=True)
    table = reference.value_embedding(distinct.view(precise), *weights, alpha=alpha)  # (U, D)
    # Gathered before it is rounded, so that backward sums thousands of rows in float32.
    return functional.embedding(index, table).to(bins.dtype)  # (N, D)
