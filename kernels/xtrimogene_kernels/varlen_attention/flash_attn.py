"""flash-attn 2, for those who built it: CUDA, bfloat16 or float16."""

from jaxtyping import Float
from torch import Tensor

from xtrimogene_kernels.segments import Segments


def varlen_attention(
    query: Float[Tensor, "N H d"],
    key: Float[Tensor, "N H d"],
    value: Float[Tensor, "N H d"],
    segments: Segments,
) -> Float[Tensor, "N H d"]:
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError as error:
        raise ImportError(
            "implementation='flash_attn' needs the package flash-attn, which is not installed; "
            "build it with `pip install flash-attn --no-build-isolation`, or use implementation='auto'."
        ) from error
    longest = segments.max_length
    bounds = segments.cu_seqlens
    output: Tensor = flash_attn_varlen_func(query, key, value, bounds, bounds, longest, longest)
    return output
