"""Many rows through a function of single rows: on a CPU, without gradients, so many at a time as a cache holds.

A feed-forward part over every gene makes a hidden layer of 160 MB, in shares one of 8 MB for each thread.
Letters: N rows; D width.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

NUMBERS_A_THREAD = 2**19  # rows x width


def rowwise(function: Callable[..., Tensor], *inputs: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Return ``function(*inputs)``, which is as wide as they are and takes each row by itself."""
    num_rows, width = inputs[0].shape
    share = max(1, NUMBERS_A_THREAD * torch.get_num_threads() // width)
    if torch.is_grad_enabled() or inputs[0].device.type != "cpu" or num_rows <= share:
        return function(*inputs)
    out = torch.empty_like(inputs[0])
    shares = (torch.split(rows, share) for rows in (out, *inputs))
    for target, *rows in zip(*shares, strict=True):
        target.copy_(function(*rows))
    return out
