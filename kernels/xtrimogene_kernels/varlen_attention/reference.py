"""Softmax attention inside each cell, written out.

Letters: M query, N key rows of all cells, packed; H heads; d width of a head; m query, n key rows of one cell.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xtrimogene_kernels.segments import Segments


def varlen_attention(
    query: Float[Tensor, "M H d"],
    key: Float[Tensor, "N H d"],
    value: Float[Tensor, "N H d"],
    query_segments: Segments,
    key_segments: Segments,
    *,
    causal: bool = False,
) -> Float[Tensor, "M H d"]:
    queries = torch.split(query, list(query_segments.lengths))
    keys, values = (torch.split(rows, list(key_segments.lengths)) for rows in (key, value))
    outputs = []
    for q, k, v in zip(queries, keys, values, strict=True):
        q, k, v = (rows.transpose(0, 1) for rows in (q, k, v))  # (H, m or n, d)
        scores = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5  # (H, m, n)
        if causal:
            scores = scores.masked_fill(~is_seen(q.shape[1], k.shape[1], q.device), -torch.inf)
        outputs.append((scores.softmax(-1) @ v).transpose(0, 1))  # (m, H, d)
    return torch.cat(outputs) if outputs else torch.cat([query[:0], key[:0], value[:0]])


def is_seen(num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "m n"]:
    """Which keys each query sees where attention is causal: the last query sees all, the one before it one less."""
    everything = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
    return everything.tril(num_keys - num_queries)
