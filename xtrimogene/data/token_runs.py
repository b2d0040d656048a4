"""Neighbours that are read together, by how many tokens they have. N: items, in the order in which they are read."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def token_runs(
    lengths: Int[np.ndarray, " N"] | Sequence[int], most_tokens: int | None, *, most_items: int | None = None
) -> list[slice]:
    """Return the fewest runs of neighbours of at most so many tokens and items each; one that is longer goes alone."""
    edges, total = [0], 0
    for place, length in enumerate(np.asarray(lengths).tolist()):
        over = most_tokens is not None and total + length > most_tokens
        if place > edges[-1] and (over or place - edges[-1] == most_items):
            edges.append(place)
            total = 0
        total += length
    return [slice(start, stop) for start, stop in zip(edges, [*edges[1:], len(lengths)], strict=True) if stop > start]
