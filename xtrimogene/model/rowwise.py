"""Many rows, so many at a time as a cache holds: on a CPU, without gradients.

A feed-forward part over every gene makes a hidden layer of 160 MB, in shares one of 4 MB for each thread. Memory of
shares this small stays with the process; what is larger the system clears anew each time.
Letters: N rows; D width.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from xtrimogene_kernels.onednn import row_multiple

NUMBERS_A_THREAD = 2**18  # rows x width


def in_shares(x: Float[Tensor, "N D"]) -> bool:
    """Whether the rows are to be taken a share at a time."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def shares(rows: slice, width: int) -> Iterator[slice]:
    """Cut rows of this width into shares."""
    share, multiple = max(1, NUMBERS_A_THREAD * torch.get_num_threads() // width), row_multiple()
    share -= share % multiple if share > multiple else 0  # or products would fill them up
    return (slice(start, min(start + share, rows.stop)) for start in range(rows.start, rows.stop, share))


def rowwise(function: Callable[..., Tensor], x: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Return ``function(x)``, which is as wide as ``x`` and takes each row by itself."""
    parts = list(shares(slice(0, len(x)), x.shape[1])) if in_shares(x) else []
    if len(parts) <= 1:
        return function(x)
    out = torch.empty_like(x)
    for share in parts:
        out[share] = function(x[share])
    return out
