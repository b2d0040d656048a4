"""A linear layer by oneDNN's products.

Rows go in blocks, and the last block is filled with zeros up to a multiple: few numbers of rows occur, and a row gets
the same numbers whatever rows stand beside it.
Letters: N rows; I, O numbers of a row before and after; b rows of a block.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from xtrimogene_kernels import onednn
from xtrimogene_kernels.linear.reference import Activation, activate
from xtrimogene_kernels.onednn import MULTIPLE, block_rows, multiple, product


def takes(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN can take these, and is the faster: of few rows it is not."""
    return x.numel() >= MULTIPLE * x.shape[-1] > 0 and onednn.takes(x, weight)


def linear(
    x: Float[Tensor, "*N I"],
    weight: Float[Tensor, "O I"],
    bias: Float[Tensor, "O"] | None = None,
    activation: Activation = "none",
) -> Float[Tensor, "*N O"]:
    rows = x.flatten(0, -2)
    if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in (x, weight, bias)):
        out = activate(_Linear.apply(rows, weight, bias), activation)  # type: ignore[no-untyped-call]
    else:
        out = products(rows, weight, bias, activation)
    return out.view(*x.shape[:-1], -1)


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
    for rows in _blocks(len(x)):
        out[rows] = _block(x[rows], weight, bias, activation)
    return out


def _blocks(num_rows: int) -> Iterator[slice]:
    step = block_rows()
    return (slice(start, min(start + step, num_rows)) for start in range(0, num_rows, step))


def _block(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation) -> Tensor:
    return product(_filled(x), weight, bias, activation)[: len(x)]


def _filled(x: Float[Tensor, "n I"]) -> Float[Tensor, "b I"]:
    missing = -len(x) % multiple()
    return F.pad(x, (0, 0, 0, missing)) if missing else x


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        out = products(x, weight, bias)
        return out.clone() if out._is_view() else out  # an activation may follow in place

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
    for rows in _blocks(len(a)):
        total += products(_filled(a[rows]).T, _filled(b[rows]).T)
    return total
