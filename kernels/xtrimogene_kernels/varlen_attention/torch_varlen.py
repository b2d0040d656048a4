"""torch's own variable-length flash attention: CUDA, bfloat16 or float16."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from xtrimogene_kernels.segments import Segments


def varlen_attention(
    query: Float[Tensor, "N H d"],
    key: Float[Tensor, "N H d"],
    value: Float[Tensor, "N H d"],
    segments: Segments,
) -> Float[Tensor, "N H d"]:
    longest = segments.max_length
    bounds = segments.cu_seqlens
    # Positional only: the keywords changed between torch releases.
    output = varlen_attn(query, key, value, bounds, bounds, longest, longest)
    assert isinstance(output, Tensor)
    return output
