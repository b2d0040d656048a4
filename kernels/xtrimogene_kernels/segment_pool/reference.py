"""Maximum and mean over the rows of each cell.

Rows that tie for the maximum share its gradient evenly.

Letters: N rows of all cells, packed; B cells; D width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from xtrimogene_kernels.segments import Segments


def segment_pool(tokens: Float[Tensor, "N D"], segments: Segments) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    if not segments.lengths:
        return tokens[:0], tokens[:0]
    cells = torch.split(tokens, list(segments.lengths))
    return torch.stack([cell.amax(0) for cell in cells]), torch.stack([cell.mean(0) for cell in cells])
