"""Draw tokens from logits: by temperature and nucleus, each sequence from its own random numbers.

Letters: V vocabulary; A ids allowed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from xtrimogene.config import require


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """The likeliest tokens that make up ``top_p`` of the probability, at this temperature.

    Sequence i of a call depends on ``seed`` and i alone, whatever is generated beside it.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"temperature={self.temperature} must be positive; a small one is greedy.")
        require(0 < self.top_p <= 1, f"top_p={self.top_p} must lie in (0, 1].")
        require(self.seed >= 0, f"seed={self.seed} must not be negative.")

    def generator(self, sequence: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, sequence])


def draw_token(
    logits: Float[np.ndarray, " V"],
    allowed: Int64[np.ndarray, " A"],
    config: SamplingConfig,
    random: np.random.Generator,
) -> int:
    """Draw one of the allowed ids."""
    scores = logits[allowed].astype(np.float64)
    with np.errstate(over="ignore"):  # a temperature may be so small that all but the likeliest become -inf
        weights = np.exp((scores - scores.max()) / config.temperature)
    order = np.argsort(-weights, kind="stable")
    cumulative = weights[order].cumsum() / weights.sum()
    num_kept = int(np.searchsorted(cumulative, config.top_p * (1 - 1e-12))) + 1
    place = np.searchsorted(cumulative[:num_kept], random.random() * cumulative[num_kept - 1], side="right")
    return int(allowed[order[min(int(place), num_kept - 1)]])
