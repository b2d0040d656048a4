"""Softmax attention inside each cell of a packed batch, full or causal; no cell sees another."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from xtrimogene_kernels import onednn
from xtrimogene_kernels.checks import check_alike, check_implementation, check_same_cells, check_segments, check_shape
from xtrimogene_kernels.segments import Segments
from xtrimogene_kernels.varlen_attention import blocks, flash_attn, reference, sdpa, torch_varlen

__all__ = ["Implementation", "varlen_attention"]

Implementation = Literal["auto", "reference", "sdpa", "blocks", "torch_varlen", "flash_attn"]

_FORMS = {
    "reference": reference.varlen_attention,
    "sdpa": sdpa.varlen_attention,
    "blocks": blocks.varlen_attention,
    "torch_varlen": torch_varlen.varlen_attention,
    "flash_attn": flash_attn.varlen_attention,
}


def varlen_attention(
    query: Float[Tensor, "M H d"],
    key: Float[Tensor, "N H d"],
    value: Float[Tensor, "N H d"],
    query_segments: Segments,
    key_segments: Segments,
    *,
    causal: bool = False,
    implementation: Implementation = "auto",
) -> Float[Tensor, "M H d"]:
    """Attend from every query row to the key rows of its own cell, with scale ``d ** -0.5``.

    Parameters
    ----------
    query, key, value
        Rows of all cells one after the other: packed, never padded. A cell without queries is allowed and gives none.
    query_segments, key_segments
        Where each cell begins and ends, in the query and in the key; both hold the same cells.
    causal
        Query row i of a cell's m sees its first ``n - m + i + 1`` of n keys: the last query is where the last key is.
    implementation
        ``"auto"`` is a rule: bfloat16 and float16 on CUDA use ``"torch_varlen"``, float32 on a processor with AVX-512
        ``"blocks"`` (outside autocast, torch.compile and torch.func), everything else ``"sdpa"``.
        ``"flash_attn"`` is used only by name.

    Raises
    ------
    ValueError
        Shapes, dtypes, devices or segments disagree, a cell has queries and no key or, where causal, more queries than
        keys, or the implementation cannot take this dtype or device.
    ImportError
        flash-attn was asked for and is not installed.
    """
    if query.ndim != 3:
        raise ValueError(f"query must have shape (M, H, d), not {tuple(query.shape)}; reshape the heads out first.")
    check_alike({"query": query, "key": key, "value": value})
    check_shape("key", key, (key.shape[0], *query.shape[1:]), "(N, H, d)")
    check_shape("value", value, key.shape, "(N, H, d)")
    check_segments("query", query, query_segments, allow_empty=True)
    check_segments("key", key, key_segments, allow_empty=True)
    check_same_cells(query_segments, key_segments)
    for i, (m, n) in enumerate(zip(query_segments.lengths, key_segments.lengths, strict=True)):
        if m and not n:
            raise ValueError(f"every cell with queries needs a key, but cell {i} has none; drop its queries.")
        if causal and m > n:
            raise ValueError(
                f"causal attention needs at least as many keys as queries in every cell, but cell {i} has {n} and {m}; "
                "give the keys of the rows before the queries as well."
            )
    check_implementation(implementation, ("auto", *_FORMS))
    half_on_cuda = query.is_cuda and query.dtype in (torch.bfloat16, torch.float16)
    if implementation == "auto":
        implementation = "torch_varlen" if half_on_cuda else "blocks" if blocks.takes(query, key, value) else "sdpa"
    if implementation == "blocks" and not onednn.takes(query, key, value):
        raise ValueError(
            "implementation='blocks' needs float32 on an x86 processor, outside autocast, torch.compile and "
            f"torch.func, not {query.dtype} on {query.device.type}; use implementation='auto'."
        )
    if implementation in ("torch_varlen", "flash_attn") and not half_on_cuda:
        raise ValueError(
            f"implementation={implementation!r} needs bfloat16 or float16 on CUDA, not {query.dtype} on "
            f"{query.device.type}; use implementation='auto'."
        )
    return _FORMS[implementation](query, key, value, query_segments, key_segments, causal=causal)
