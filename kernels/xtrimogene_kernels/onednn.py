"""oneDNN's float32 products on an x86 processor. PyTorch has them, but calls MKL's.

MKL takes AVX2 on AMD's processors even where they have AVX-512, so that half of the multipliers lie idle, and is slower
where rows are as short as an attention head (benchmarks/linear.py). oneDNN makes code for each shape that it meets and
keeps it, .6 MB each for up to 1,024 shapes: who calls it cuts rows into blocks, so that few shapes occur.
"""

import platform
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

BLOCK_ROWS = 512  # for each thread: what a product reads and writes stays in a core's cache
MULTIPLE = 32  # of rows in a block, up to four threads


def block_rows() -> int:
    return BLOCK_ROWS * torch.get_num_threads()


def multiple() -> int:
    """Return what rows of a block are filled up to: with many threads, more, so that no more shapes occur."""
    return MULTIPLE * max(1, torch.get_num_threads() // 4)


def takes(*tensors: Tensor) -> bool:
    """Whether `product` can take these here and now."""
    return (
        not torch.compiler.is_compiling()
        and all(x.dtype == torch.float32 and x.device.type == "cpu" and type(x) in _PLAIN for x in tensors)
        and _is_here()
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
    )


_PLAIN = (Tensor, nn.Parameter)  # what is quantized or sharded is of other types


@cache
def _is_here() -> bool:
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return is_x86 and torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(
    x: Float[Tensor, "N I"], weight: Float[Tensor, "O I"], bias: Tensor | None = None, activation: str = "none"
) -> Float[Tensor, "N O"]:
    """Return ``activation(x @ weight.T + bias)``; no gradient. ``weight`` is read in any strides, ``x`` is copied."""
    algorithm = "none" if activation == "gelu" else ""  # the error function, not its approximation
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], algorithm)
    return out
