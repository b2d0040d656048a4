"""torch's own variable-length flash attention: CUDA, bfloat16 or float16."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from jaxtyping import Float
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
    from torch.nn.attention.varlen import varlen_attn  # brings torch's compiler, seconds that no CPU needs

    bounds = (query_segments.cu_seqlens, key_segments.cu_seqlens)
    longest = (query_segments.max_length, key_segments.max_length)
    # Positional where that can be: the keywords changed between torch releases.
    output = varlen_attn(query, key, value, *bounds, *longest, **(_causal_keyword(varlen_attn) if causal else {}))
    assert isinstance(output, Tensor)
    return output


def _causal_keyword(function: Callable[..., object]) -> dict[str, Any]:
    """Causality, aligned at the last query and key as in flash-attn, from which both keywords come."""
    return {"window_size": (-1, 0)} if "window_size" in signature(function).parameters else {"is_causal": True}
