"""flash-attn 2, for those who built it: CUDA, bfloat16 or float16."""

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
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError as error:
        raise ImportError(
            "implementation='flash_attn' needs the package flash-attn, which is not installed; "
            "build it with `pip install flash-attn --no-build-isolation`, or use implementation='auto'."
        ) from error
    bounds = (query_segments.cu_seqlens, key_segments.cu_seqlens)
    longest = (query_segments.max_length, key_segments.max_length)
    output: Tensor = flash_attn_varlen_func(query, key, value, *bounds, *longest, causal=causal)
    return output
