"""Attention that is full over each sequence's prefix and causal after it, on packed rows.

It is two calls of the packed kernel: a prefix to itself, and the rows after it, causally, to the whole sequence.
Letters: N rows of all sequences, packed; H heads; d width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from xtrimogene.data.movable import Movable
from xtrimogene_kernels.segments import Segments
from xtrimogene_kernels.varlen_attention import varlen_attention


@dataclass(frozen=True, slots=True, eq=False)
class PrefixMask(Movable):
    """Who sees whom; a prefix of the whole sequence is MLM, one of no row is CLM.

    ``order`` are the rows of all prefixes and then the rows after them, ``place`` is where each row is in that order;
    both are None where every row is of one kind.
    """

    segments: Segments
    prefix: Segments
    suffix: Segments
    order: Int64[Tensor, "N"] | None
    place: Int64[Tensor, "N"] | None

    @classmethod
    def from_lengths(cls, lengths: Sequence[int], prefix_lengths: Sequence[int]) -> "PrefixMask":
        suffix_lengths = [length - prefix for length, prefix in zip(lengths, prefix_lengths, strict=True)]
        assert min(suffix_lengths, default=0) >= 0, "a prefix is a part of its sequence"
        prefix, suffix = Segments.from_lengths(prefix_lengths), Segments.from_lengths(suffix_lengths)
        order = place = None
        if prefix.num_rows and suffix.num_rows:
            is_prefix = np.repeat(np.tile([True, False], len(lengths)), _alternate(prefix_lengths, suffix_lengths))
            rows = np.argsort(~is_prefix, kind="stable")
            order, place = torch.from_numpy(rows), torch.from_numpy(np.argsort(rows))
        return cls(Segments.from_lengths(lengths), prefix, suffix, order, place)


def prefix_attention(
    query: Float[Tensor, "N H d"], key: Float[Tensor, "N H d"], value: Float[Tensor, "N H d"], mask: PrefixMask
) -> Float[Tensor, "N H d"]:
    """Attend inside each sequence, as the mask says."""
    if mask.order is None or mask.place is None:
        return varlen_attention(query, key, value, mask.segments, mask.segments, causal=mask.prefix.num_rows == 0)
    of_prefix, after = torch.split(mask.order, [mask.prefix.num_rows, mask.suffix.num_rows])
    attended = torch.cat(
        [
            varlen_attention(query[of_prefix], key[of_prefix], value[of_prefix], mask.prefix, mask.prefix),
            varlen_attention(query[after], key, value, mask.suffix, mask.segments, causal=True),
        ]
    )
    return attended[mask.place]


def _alternate(first: Sequence[int], second: Sequence[int]) -> list[int]:
    return [length for pair in zip(first, second, strict=True) for length in pair]
