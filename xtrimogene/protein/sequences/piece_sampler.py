"""Which pieces each training step reads: as many tokens a step as fit, each piece once an epoch, in an order by seed.

Letters: P pieces; b pieces of a step.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64


def step_pieces(
    lengths: Int64[np.ndarray, " P"], tokens_per_step: int, *, seed: int
) -> Iterator[Int64[np.ndarray, " b"]]:
    """Yield the pieces of each step, epoch after epoch; a step may hold the end of one and the begin of the next."""
    assert len(lengths) and lengths.max() <= tokens_per_step
    pending, epoch = np.empty(0, np.int64), 0
    while True:
        pending = np.concatenate([pending, np.random.default_rng([seed, epoch]).permutation(len(lengths))])
        epoch += 1
        ends = lengths[pending].cumsum()
        start, before = 0, 0
        while (stop := int(np.searchsorted(ends, before + tokens_per_step, side="right"))) < len(pending):
            yield pending[start:stop]
            start, before = stop, int(ends[stop - 1])
        pending = pending[start:]


def split_by_tokens(lengths: Int64[np.ndarray, " b"], most: int) -> list[slice]:
    """Return the fewest runs of neighbours that have at most so many tokens each, but for one that is longer alone."""
    edges, total = [0], 0
    for place, length in enumerate(lengths.tolist()):
        if total + length > most and place > edges[-1]:
            edges.append(place)
            total = 0
        total += length
    return [slice(start, stop) for start, stop in zip(edges, [*edges[1:], len(lengths)], strict=True)]
