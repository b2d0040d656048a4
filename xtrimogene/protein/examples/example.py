"""One sequence as a network reads it, and what it has to answer.

A position is two numbers, as in GLM: where a token stands in the source or, of what is generated, where the mask stands
that it replaces; and the place inside the generated part, from 1, or 0 in the source.
Letters: n tokens of one sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

IGNORED = -100  # a label that is none: torch's cross-entropy passes over it


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """``labels`` are what should be predicted at each token; the first ``prefix_length`` tokens see each other."""

    token_ids: Int64[np.ndarray, " n"]
    positions: Int64[np.ndarray, "n 2"]
    labels: Int64[np.ndarray, " n"]
    prefix_length: int

    def __post_init__(self) -> None:
        assert len(self.token_ids) == len(self.positions) == len(self.labels) >= self.prefix_length


def source_positions(num_tokens: int) -> Int64[np.ndarray, "n 2"]:
    """Return the positions of tokens that stand where they stand."""
    return np.stack([np.arange(num_tokens), np.zeros(num_tokens, np.int64)], axis=1)


def target_positions(mask_index: int, num_tokens: int) -> Int64[np.ndarray, "n 2"]:
    """Return the positions of tokens generated in place of the mask at this index of the source."""
    return np.stack([np.full(num_tokens, mask_index), np.arange(1, num_tokens + 1)], axis=1)


def no_labels(num_tokens: int) -> Int64[np.ndarray, " n"]:
    return np.full(num_tokens, IGNORED)


def as_ids(tokens: Sequence[int]) -> Int64[np.ndarray, " n"]:
    return np.asarray(tokens, np.int64)
