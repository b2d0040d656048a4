"""Sequences one after the other, unpadded: what a protein model reads.

Letters: N tokens of all sequences, packed; n tokens of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from xtrimogene.data.movable import Movable
from xtrimogene.protein.examples.example import Example, no_labels, source_positions
from xtrimogene.protein.network.prefix_mask import PrefixMask
from xtrimogene_kernels.segments import Segments


@dataclass(frozen=True, slots=True, eq=False)
class PackedSequences(Movable):
    """``positions`` are those of `Example`; ``mask`` says where each sequence begins and who sees whom."""

    token_ids: Int64[Tensor, "N"]
    positions: Int64[Tensor, "N 2"]
    mask: PrefixMask

    @classmethod
    def from_examples(cls, examples: Sequence[Example]) -> "PackedSequences":
        token_ids = np.concatenate([np.empty(0, np.int64), *(example.token_ids for example in examples)])
        positions = np.concatenate([np.empty((0, 2), np.int64), *(example.positions for example in examples)])
        lengths = [len(example.token_ids) for example in examples]
        mask = PrefixMask.from_lengths(lengths, [example.prefix_length for example in examples])
        return cls(torch.from_numpy(token_ids), torch.from_numpy(positions), mask)

    @classmethod
    def from_ids(cls, sequences: Sequence[Int64[np.ndarray, " n"]]) -> "PackedSequences":
        """Pack sequences that are read in both directions, as in MLM and for embeddings."""
        return cls.from_examples(
            [Example(ids, source_positions(len(ids)), no_labels(len(ids)), len(ids)) for ids in sequences]
        )

    @property
    def segments(self) -> Segments:
        return self.mask.segments


def pack_labels(examples: Sequence[Example]) -> Int64[Tensor, "N"]:
    return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *(example.labels for example in examples)]))
