"""Where each cell of a packed batch begins and ends.

Lengths stand twice: on the device for kernels, on the host for loops, so that nothing synchronizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Int32, Int64
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Segments:
    """``cu_seqlens[i]:cu_seqlens[i + 1]`` are the rows of cell ``i``; ``lengths`` are the same on the host."""

    cu_seqlens: Int32[Tensor, "bounds"]
    lengths: tuple[int, ...]

    @classmethod
    def from_lengths(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> "Segments":
        lengths = tuple(int(length) for length in lengths)
        return cls(_sent([0, *accumulate(lengths)], torch.int32, device), lengths)

    @property
    def num_segments(self) -> int:
        return len(self.lengths)

    @property
    def num_rows(self) -> int:
        return sum(self.lengths)

    @property
    def max_length(self) -> int:
        return max(self.lengths, default=0)

    def segment_of_row(self) -> Int64[Tensor, "N"]:
        """Return the segment each row belongs to."""
        device = self.cu_seqlens.device
        lengths = _sent(self.lengths, torch.int64, device)
        return torch.arange(self.num_segments, device=device).repeat_interleave(lengths, output_size=self.num_rows)

    def between(self, start: int, stop: int) -> "Segments":
        """Return segments ``start`` to ``stop`` only, their rows counted from zero."""
        bounds = self.cu_seqlens[start : stop + 1]
        return Segments(bounds - bounds[0] if start else bounds, self.lengths[start:stop])

    def rows_between(self, start: int, stop: int) -> slice:
        """Return the rows of segments ``start`` to ``stop``."""
        first = sum(self.lengths[:start])
        return slice(first, first + sum(self.lengths[start:stop]))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Segments":
        return Segments(self.cu_seqlens.to(device, non_blocking=non_blocking), self.lengths)


def _sent(numbers: Sequence[int], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Return the numbers on the device; from pinned memory, or the host would wait for a GPU to get there."""
    host = torch.tensor(numbers, dtype=dtype)
    return host.pin_memory().to(device, non_blocking=True) if torch.device(device).type == "cuda" else host.to(device)
