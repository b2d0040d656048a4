"""Maximum and mean over the rows of each cell, all cells at once: on a GPU a call for each costs more than its work.

Rows are joined in runs and the runs of a cell in turn, so that a long cell fills a GPU too. Runs begin where their cell
does and nothing is added atomically: a cell's vector is the same to the bit in any batch.

Letters: N rows of all cells, packed; B cells; D width.
"""

from itertools import chain
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from xtrimogene_kernels.segments import Segments

RUN = 64  # rows


def segment_pool(tokens: Float[Tensor, "N D"], segments: Segments) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    if not segments.lengths:
        return tokens[:0], tokens[:0]
    largest, mean = _AtOnce.apply(tokens, segments)  # type: ignore[no-untyped-call]
    return largest, mean


class _AtOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
        bounds = _bounds(segments)
        largest, sums = _joined(tokens, bounds, "max"), _joined(_precise(tokens), bounds, "sum")
        ctx.save_for_backward(tokens, largest)
        ctx.segments, ctx.bounds = segments, bounds
        return largest, (sums / _lengths(segments)).to(tokens.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_largest: Tensor, grad_mean: Tensor) -> tuple[Tensor, None]:
        tokens, largest = ctx.saved_tensors
        cell_of_row = ctx.segments.segment_of_row()
        is_largest = tokens == largest[cell_of_row]  # (N, D)
        num_ties = _joined(is_largest.float(), ctx.bounds, "sum")  # (B, D)
        of_mean = _precise(grad_mean) / _lengths(ctx.segments)
        of_both = of_mean + _precise(grad_largest) / num_ties
        of_both, of_mean = (share.to(tokens.dtype)[cell_of_row] for share in (of_both, of_mean))  # (N, D) each
        return torch.where(is_largest, of_both, of_mean), None


def _bounds(segments: Segments) -> list[Tensor]:
    """Return where each run of rows begins and ends, and where the runs of each cell do."""
    runs = [[RUN] * (length // RUN) + [length % RUN] * (length % RUN > 0) for length in segments.lengths]
    device = segments.cu_seqlens.device
    return [Segments.from_lengths(lengths, device).cu_seqlens for lengths in (list(chain(*runs)), list(map(len, runs)))]


def _joined(rows: Float[Tensor, "N D"], bounds: list[Tensor], how: Literal["max", "sum"]) -> Float[Tensor, "B D"]:
    for offsets in bounds:
        rows = torch.segment_reduce(rows, how, offsets=offsets, axis=0, unsafe=True)  # else the host waits for a check
    return rows


def _lengths(segments: Segments) -> Tensor:
    return segments.cu_seqlens.diff()[:, None]


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
