"""One scaled_dot_product_attention call a cell: nothing is padded, and one cell costs what it costs alone.

Letters: M query, N key rows of all cells, packed; H heads; d width of a head; m query, n key rows of one cell.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from xtrimogene_kernels.segments import Segments
from xtrimogene_kernels.varlen_attention.reference import is_seen


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
    outputs = [attend(*cell, causal) for cell in zip(queries, keys, values, strict=True)]
    if len(outputs) == 1:
        return outputs[0]
    return torch.cat(outputs) if outputs else torch.cat([query[:0], key[:0], value[:0]])


def attend(
    query: Float[Tensor, "m H d"], key: Float[Tensor, "n H d"], value: Float[Tensor, "n H d"], causal: bool
) -> Float[Tensor, "m H d"]:
    """Attend inside one cell."""
    q, k, v = (rows.transpose(0, 1)[None] for rows in (query, key, value))  # (1, H, m or n, d), views
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()  # read block by block: a head's rows side by side
    return _attend(q, k, v, causal)[0].transpose(0, 1)


def _attend(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    num_queries, num_keys = q.shape[2], k.shape[2]
    if not causal or num_queries == 1:  # a last query sees every key
        return scaled_dot_product_attention(q, k, v)
    if num_queries == num_keys:
        return scaled_dot_product_attention(q, k, v, is_causal=True)
    # is_causal would align the first query with the first key
    return scaled_dot_product_attention(q, k, v, attn_mask=is_seen(num_queries, num_keys, q.device))
