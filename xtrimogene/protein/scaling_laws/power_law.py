"""A power of something, and how far refits to noisy runs leave it open.

Letters: R refits; N values.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from xtrimogene.config import require

STEEPEST = 7.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerLaw:
    """``coefficient * x ** exponent``. ``refits``: coefficient and exponent of each of R refits to noisy runs."""

    coefficient: float
    exponent: float
    refits: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of_rows(cls, law: Float[np.ndarray, "2"], refits: Float[np.ndarray, "R 2"]) -> "PowerLaw":
        """Return the law of a coefficient and an exponent, and of those of its refits."""
        coefficient, exponent = law.tolist()
        return cls(coefficient=coefficient, exponent=exponent, refits=tuple(map(tuple, refits.tolist())))

    def __post_init__(self) -> None:
        require(
            0 < self.coefficient < math.inf and abs(self.exponent) <= STEEPEST,
            f"{self.coefficient:g} x^{self.exponent:g} is no law: the coefficient must be positive and finite, and the "
            f"exponent lie between -{STEEPEST:g} and {STEEPEST:g}.",
        )
        wrong = [pair for pair in self.refits if not (0 < pair[0] < math.inf and math.isfinite(pair[1]))]
        require(not wrong, f"{len(wrong)} of {len(self.refits)} refits are no laws; a positive coefficient is needed.")

    def at(self, x: float) -> float:
        return float(self.coefficient * x**self.exponent)

    def inverse(self, y: float) -> float:
        """Return the x at which the law gives y."""
        return float((y / self.coefficient) ** (1 / self.exponent))

    def curve(self, x: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        return self.coefficient * x**self.exponent

    def interval(self, x: float, level: float = 0.9) -> tuple[float, float] | None:
        """Return what the middle of the refits give at x, ``level`` of them; None where there are no refits."""
        if not self.refits:
            return None
        coefficient, exponent = np.array(self.refits).T
        return _middle(coefficient * x**exponent, level)

    def exponent_interval(self, level: float = 0.9) -> tuple[float, float] | None:
        if not self.refits:
            return None
        return _middle(np.array(self.refits)[:, 1], level)


def _middle(values: Float[np.ndarray, " R"], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
