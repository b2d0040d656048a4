"""What training on CLM first is worth to MLM: effectively transferred tokens (Hernandez et al., arXiv 2102.01293)."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from xtrimogene.config import require
from xtrimogene.protein.scaling_laws.power_law import PowerLaw


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """A budget shared between CLM, which goes first, and MLM."""

    flops: float
    num_parameters: float
    first_tokens: float
    second_tokens: float

    @property
    def first_share(self) -> float:
        return self.first_tokens / (self.first_tokens + self.second_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferLaw:
    """``D_t = k * D_f ** alpha * N ** beta``, and the loss of either way.

    D_f are the MLM tokens trained on after CLM, and D_t how many more MLM tokens a model from scratch needs for the
    same loss. How much CLM went before is not in the law: it holds for about the ``first_share`` of all compute that
    the pairs it was fitted on gave to CLM. ``scratch`` and ``transfer`` are losses of the MLM compute alone.
    ``published_share``: of a fixed budget, what had better go to CLM first, as the source has it. ``refits``: k, alpha
    and beta of refits to noisy curves.
    """

    name: str
    k: float
    alpha: float
    beta: float
    scratch: PowerLaw
    transfer: PowerLaw
    first_share: tuple[float, float]
    fitted_parameters: tuple[float, float]
    data: str
    source: str
    published_share: tuple[float, float] | None = None
    refits: tuple[tuple[float, float, float], ...] = ()
    caution: str = ""

    def transferred_tokens(self, second_tokens: float, num_parameters: float) -> float:
        return self.k * second_tokens**self.alpha * num_parameters**self.beta

    def split(self, flops: float, num_parameters: float) -> Split:
        """Return the most that may go to CLM first and still save as many MLM tokens as it takes.

        With less, training on CLM first gains, as long as the law holds for so little of it.

        Raises
        ------
        ConfigError
            The budget or the size is not positive.
        """
        require(flops > 0 and num_parameters > 0, f"flops={flops:g} and num_parameters={num_parameters:g} must be > 0.")
        tokens = flops / (6 * num_parameters)

        def gain(log_rest: float) -> float:
            rest = math.exp(log_rest)
            return self.transferred_tokens(rest * tokens, num_parameters) / tokens - (1 - rest)

        rest = math.exp(brentq(gain, -500.0, 0.0, xtol=1e-13))  # of the tokens; nearly none where N is large
        return Split(
            flops=flops,
            num_parameters=num_parameters,
            first_tokens=(1 - rest) * tokens,
            second_tokens=rest * tokens,
        )

    def exponent_intervals(self, level: float = 0.9) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Return those of alpha and beta that the middle ``level`` of the refits have; None where there are none."""
        if not self.refits:
            return None
        ends = np.quantile(np.array(self.refits)[:, 1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
        (a_low, b_low), (a_high, b_high) = ends.tolist()
        return (a_low, a_high), (b_low, b_high)
