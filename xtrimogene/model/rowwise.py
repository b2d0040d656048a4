"""Many rows through a function of single rows: on a CPU, without gradients, so many at a time as a cache holds.

A feed-forward part over every gene makes a hidden layer of 160 MB, in shares one of 8 MB for each thread.
Letters: N rows; D width.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

NUMBERS_A_THREAD = 2**19  # rows x width


def rowwise(function: Callable[[Tensor], Tensor], x: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Return ``function(x)``, which is as wide as ``x`` and takes each row by itself."""
    share = max(1, NUMBERS_A_THREAD * torch.get_num_threads() // x.shape[1])
    if torch.is_grad_enabled() or x.device.type != "cpu" or len(x) <= share:
        return function(x)
    out = torch.empty_like(x)
    for rows, target in zip(torch.split(x, share), torch.split(out, share), strict=True):
        target.copy_(function(rows))
    return out
