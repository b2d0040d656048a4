"""Maximum and mean over the rows of each cell, with both gradients written in one place.

Autograd of the reference makes a tensor of the size of the tokens for each of its steps; here there is one.

Letters: N rows of all cells, packed; B cells; D width.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from xtrimogene_kernels.segment_pool import reference
from xtrimogene_kernels.segments import Segments


def segment_pool(tokens: Float[Tensor, "N D"], segments: Segments) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    largest, mean = _Fused.apply(tokens, segments)  # type: ignore[no-untyped-call]
    return largest, mean


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
        largest, mean = reference.segment_pool(tokens, segments)
        ctx.save_for_backward(tokens, largest)
        ctx.lengths = list(segments.lengths)
        return largest, mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_largest: Tensor, grad_mean: Tensor) -> tuple[Tensor, None]:
        tokens, largest = ctx.saved_tensors
        grad_tokens = torch.empty_like(tokens)
        cells = zip(torch.split(tokens, ctx.lengths), torch.split(grad_tokens, ctx.lengths), strict=True)
        for i, (cell, grad) in enumerate(cells):
            torch.eq(cell, largest[i], out=grad)
            num_ties = grad.sum(0, dtype=torch.float32)
            torch.addcmul(grad_mean[i] / len(cell), grad, (grad_largest[i] / num_ties).to(grad.dtype), out=grad)
        return grad_tokens, None
