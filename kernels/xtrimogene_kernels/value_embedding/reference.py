"""Embed a real-valued expression level as a soft mix of learned bins (auto-discretization, xTrimoGene).

Letters: N values of all cells, packed; K bins; D width.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


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
    precise = torch.promote_types(bins.dtype, torch.float32)  # bfloat16 would merge neighbouring expression levels
    hidden = functional.linear(values[:, None].to(precise), in_weight.to(precise), in_bias.to(precise))
    hidden = functional.leaky_relu(hidden, 0.1)  # (N, K)
    scores = alpha * hidden + functional.linear(hidden, mix_weight.to(precise), mix_bias.to(precise))  # (N, K)
    return (scores.softmax(-1) @ bins.to(precise)).to(bins.dtype)  # (N, D)
