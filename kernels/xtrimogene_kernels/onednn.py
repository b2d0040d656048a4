"""oneDNN's float32 products on an x86 processor. PyTorch has them, but calls MKL's.

MKL takes AVX2 on AMD's processors even where they have AVX-512, so that half of the multipliers lie idle, and is slower
where rows are as short as an attention head (benchmarks/linear.py). oneDNN makes code for each shape that it meets and
keeps it, some .7 MB each for up to 1,024 shapes: who calls it cuts rows into blocks, so that few shapes occur.
"""

import math
import platform
from collections.abc import Iterator
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad

LOG2_E = math.log2(math.e)  # exp2 is several times as fast as exp, which is MKL's too
BLOCK_ROWS = 512  # for each thread: what a product reads and writes stays in a core's cache
MULTIPLE = 32  # of rows in a block, up to four threads


def takes(*tensors: Tensor) -> bool:
    """Whether `product` can take these here and now."""
    return (
        not torch.compiler.is_compiling()
        and all(_is_plain(x) for x in tensors)
        and _is_here()
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )


def _is_plain(x: Tensor) -> bool:
    """What is quantized or sharded is of other types."""
    is_dense = x.layout is torch.strided and x.device.type == "cpu"
    return is_dense and x.dtype == torch.float32 and type(x) in (Tensor, nn.Parameter)


@cache
def _is_here() -> bool:
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return is_x86 and torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(
    x: Float[Tensor, "N I"],
    weight: Float[Tensor, "O I"],
    bias: Float[Tensor, "O"] | None = None,
    activation: str = "none",
) -> Float[Tensor, "N O"]:
    """Return ``activation(x @ weight.T + bias)``; no gradient. ``weight`` is read in any strides."""
    algorithm = "none" if activation == "gelu" else ""  # the error function, not its approximation
    dense = None if bias is None else bias.contiguous()  # it is read as if it were
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, dense, activation, [], algorithm)
    return out


def num_threads() -> int:
    """Return the threads of a product; a compiler cannot ask."""
    return 1 if torch.compiler.is_compiling() else torch.get_num_threads()


def block_rows() -> int:
    return BLOCK_ROWS * num_threads()


def row_multiple() -> int:
    """Return what the rows of a block are filled up to: with many threads, more, so that no more shapes occur."""
    return MULTIPLE * max(1, num_threads() // 4)


def slices(num_rows: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, num_rows)) for start in range(0, num_rows, step))


def rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
