"""Performer attention (FAVOR+, softmax kernel) inside each cell, with the features written out.

With s = d^-1/4, u = (s t) P^T and g = |s t|^2 / 2, a row t has the features exp(u - g - stabilizer) + epsilon. The
factor m^-1/2 of the paper stands above and below the fraction and cancels. A query's stabilizer is its largest u; the
keys of a cell share one, the largest u over heads, tokens and features. (The released code takes it over the whole
batch, so its results depend on the neighbours; both agree on a single cell.)

With epsilon added after the exponential the stabilizers do not cancel, so in principle they carry a gradient. They are
detached, as in the released code: weights trained there and here follow the same direction.

Letters: M query rows, N key rows, packed; H heads; d width of a head; m features; n rows of one cell.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from xtrimogene_kernels.segments import Segments


def linear_attention(
    query: Float[Tensor, "M H d"],
    key: Float[Tensor, "N H d"],
    value: Float[Tensor, "N H d"],
    projection: Float[Tensor, "m d"],
    query_segments: Segments,
    key_segments: Segments,
    *,
    epsilon: float = 1e-4,
) -> Float[Tensor, "M H d"]:
    precise = torch.promote_types(query.dtype, torch.float32)
    q_cells = torch.split(query.to(precise), list(query_segments.lengths))
    k_cells = torch.split(key.to(precise), list(key_segments.lengths))
    v_cells = torch.split(value.to(precise), list(key_segments.lengths))
    projection = projection.detach().to(precise)  # a buffer: drawn, never learned
    outputs = []
    for q, k, v in zip(q_cells, k_cells, v_cells, strict=True):
        u, g = _exponents(q, projection)
        q_features = (u - g - u.detach().amax(-1, keepdim=True)).exp() + epsilon  # (H, n, m)
        u, g = _exponents(k, projection)
        k_features = (u - g - u.detach().amax()).exp() + epsilon  # (H, n, m)
        state = k_features.transpose(1, 2) @ v.transpose(0, 1)  # (H, m, d)
        normalizer = q_features @ k_features.sum(1)[:, :, None]  # (H, n, 1)
        outputs.append((q_features @ state / normalizer).transpose(0, 1))  # (n, H, d)
    return (torch.cat(outputs) if outputs else torch.empty_like(query)).to(query.dtype)


def _exponents(
    rows: Float[Tensor, "n H d"], projection: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "H n m"], Float[Tensor, "H n 1"]]:
    scaled = rows.transpose(0, 1) * rows.shape[-1] ** -0.25  # (H, n, d)
    return scaled @ projection.T, scaled.square().sum(-1, keepdim=True) / 2
