"""torch's own variable-length flash attention: CUDA, bfloat16 or float16."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from xtrimogene_kernels.segments import Segments


def varlen_attention(
    query: Float[Tensor, "M H d"],
    key: Float[Tensor, "N H d"],
    value: Float[Tensor, "N H d"],
    query_segments: Segments,
    key_segments: Segments,
) -> Float[Tensor, "M H d"]:
    bounds = (query_segments.cu_seqlens, key_segments.cu_seqlens)
    longest = (query_segments.max_length, key_segments.max_length)
    # Positional only: the keywords changed between torch releases.
    output = varlen_attn(query, key, value, *bounds, *longest)
    assert isinstance(output, Tensor)
    return output
