"""A linear layer by oneDNN's products.

Rows go in blocks, and the last block is filled with zeros up to a multiple: few numbers of rows occur, and a row gets
the same numbers whatever rows stand beside it. A gradient is taken once: not a gradient's own.
Letters: N rows; I, O numbers of a row before and after; b rows of a block.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from xtrimogene_kernels.linear.reference import Activation, activate
from xtrimogene_kernels.onednn import block_rows, product, rounded_up, row_multiple, slices, takes


def can_take(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN can take these here and now."""
    fits = weight.ndim == 2 and (bias is None or bias.shape == weight.shape[:1])
    return takes(x, weight, *([] if bias is None else [bias])) and fits and x.ndim > 1 and x.numel() > 0


def is_faster(x: Tensor) -> bool:
    """Of few rows PyTorch's own layer is."""
    return x.numel() >= row_multiple() * x.shape[-1]


def linear(
    x: Float[Tensor, "*N I"],
    weight: Float[Tensor, "O I"],
    bias: Float[Tensor, "O"] | None = None,
    activation: Activation = "none",
) -> Float[Tensor, "*N O"]:
    rows = x.flatten(0, -2).contiguous()
    if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in (x, weight, bias)):
        out = activate(_Linear.apply(rows, weight, bias), activation)  # type: ignore[no-untyped-call]
    else:
        out = products(rows, weight, bias, activation)
    return out if x.ndim == 2 else out.view(*x.shape[:-1], -1)


def products(
    x: Float[Tensor, "N I"],
    weight: Float[Tensor, "O I"],
    bias: Float[Tensor, "O"] | None = None,
    activation: Activation = "none",
) -> Float[Tensor, "N O"]:
    """As `linear`, of rows as they come, without a gradient; ``weight`` may have any strides."""
    if len(x) <= block_rows():
        return _block(x, weight, bias, activation)
    out = x.new_empty((len(x), len(weight)))
    for rows in slices(len(x), block_rows()):
        out[rows] = _block(x[rows], weight, bias, activation)
    return out


def _block(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation) -> Tensor:
    return product(_filled(x), weight, bias, activation)[: len(x)].detach()  # no view: it may be changed in place


def _filled(x: Float[Tensor, "n I"]) -> Float[Tensor, "b I"]:
    missing = rounded_up(len(x), row_multiple()) - len(x)
    return F.pad(x, (0, 0, 0, missing)) if missing else x


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return products(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            products(grad, weight.T) if of_x else None,
            _summed_products(grad, x) if of_weight else None,
            grad.sum(0) if of_bias else None,
        )


def _summed_products(a: Float[Tensor, "N O"], b: Float[Tensor, "N I"]) -> Float[Tensor, "O I"]:
    """Return ``a.T @ b``, a block of rows after the other."""
    total = a.new_zeros((a.shape[1], b.shape[1]))
    for rows in slices(len(a), block_rows()):
        total += products(_filled(a[rows]).T, _filled(b[rows]).T)
    return total
