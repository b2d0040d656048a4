"""Softmax attention inside each cell, written out.

Letters: M query, N key rows of all cells, packed; H heads; d width of a head; n rows of one cell.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from xtrimogene_kernels.segments import Segments


def varlen_attention(
    query: Float[Tensor, "M H d"],
    key: Float[Tensor, "N H d"],
    value: Float[Tensor, "N H d"],
    query_segments: Segments,
    key_segments: Segments,
) -> Float[Tensor, "M H d"]:
    queries = torch.split(query, list(query_segments.lengths))
    keys, values = (torch.split(rows, list(key_segments.lengths)) for rows in (key, value))
    outputs = []
    for q, k, v in zip(queries, keys, values, strict=True):
        q, k, v = (rows.transpose(0, 1) for rows in (q, k, v))  # (H, n, d)
        scores = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5  # (H, n, n of keys)
        outputs.append((scores.softmax(-1) @ v).transpose(0, 1))  # (n, H, d)
    return torch.cat(outputs) if outputs else torch.cat([query[:0], key[:0], value[:0]])
