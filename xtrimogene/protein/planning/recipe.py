"""How the models behind the laws were trained: batch, learning rate, schedule (Cheng et al., arXiv 2411.02142).

AdamW with beta2 .95, weight decay .1, gradients clipped at 1, bfloat16; sequences of 1,024 tokens; warm-up over 2.5 %
of the steps, then a cosine to a tenth of the peak over each run's own budget.
"""

import math
from dataclasses import dataclass

import numpy as np

SEQUENCE_LENGTH = 1024
WARMUP = 0.025  # of the steps
FINAL_RATE = 0.1  # of the peak
# Peak learning rate by parameters; between the sizes that were trained, on a straight line in log N.
_SIZES = (49e6, 85e6, 130e6, 200e6, 230e6, 470e6, 880e6, 1e9)
_RATES = (6e-4, 5.5e-4, 5.5e-4, 5e-4, 5e-4, 4e-4, 3.5e-4, 3e-4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What the source would train a model of this size with; ``batch_size`` counts sequences."""

    batch_size: int
    peak_rate: float

    @property
    def batch_tokens(self) -> int:
        return self.batch_size * SEQUENCE_LENGTH

    def num_steps(self, num_tokens: float) -> int:
        return max(1, math.ceil(num_tokens / self.batch_tokens))

    def warmup_steps(self, num_tokens: float) -> int:
        return math.ceil(WARMUP * self.num_steps(num_tokens))


def recipe_of(num_parameters: float) -> Recipe:
    rate = float(np.interp(np.log(num_parameters), np.log(_SIZES), _RATES))
    return Recipe(batch_size=512 if num_parameters < 1e9 else 1024, peak_rate=rate)
