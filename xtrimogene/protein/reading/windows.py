"""Long sequences are read in windows that overlap.

Letters: n tokens of one sequence; k windows.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64


def window_starts(num_tokens: int, window: int, overlap: int) -> list[int]:
    """Return where windows of ``window`` tokens begin; the last one ends with the sequence.

    Two neighbours share ``overlap`` tokens, the last two maybe more. A sequence that fits is one window.
    """
    last = max(0, num_tokens - window)
    return [*range(0, last, window - overlap), last]


def times_read(num_tokens: int, window: int, starts: Sequence[int]) -> Int64[np.ndarray, " n"]:
    """Return in how many windows each token is."""
    begins = np.zeros(num_tokens + 1, np.int64)
    for start in starts:
        begins[start] += 1
        begins[min(start + window, num_tokens)] -= 1
    return begins.cumsum()[:-1]


def window_around(place: int, num_tokens: int, window: int) -> slice:
    """Return the window with this token in its middle, moved inwards where it would reach over an end."""
    start = min(max(0, place - window // 2), max(0, num_tokens - window))
    return slice(start, min(start + window, num_tokens))
