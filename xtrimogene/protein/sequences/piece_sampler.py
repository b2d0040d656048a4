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
