"""Softmax attention inside each cell, written out.

Letters: N rows of all cells, packed; H heads; d width of a head; n rows of one cell.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from xtrimogene_kernels.segments import Segments


def varlen_attention(
    query: Float[Tensor, "N H d"],
    key: Float[Tensor, "N H d"],
    value: Float[Tensor, "N H d"],
    segments: Segments,
) -> Float[Tensor, "N H d"]:
    outputs = []
    for q, k, v in zip(*(torch.split(rows, list(segments.lengths)) for rows in (query, key, value)), strict=True):
        q, k, v = (rows.transpose(0, 1) for rows in (q, k, v))  # (H, n, d)
        scores = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5  # (H, n, n)
        outputs.append((scores.softmax(-1) @ v).transpose(0, 1))  # (n, H, d)
    return torch.cat(outputs) if outputs else torch.empty_like(value)
