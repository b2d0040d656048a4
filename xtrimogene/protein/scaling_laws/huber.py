"""What a parametric law is fitted by: Huber's loss of ln L, its terms added in logarithms (Hoffmann et al.).

Letters: S sets of unknowns; P points. The unknowns of a set: a = ln A, b = ln B, e = ln E, alpha, beta.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

DELTA = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class HuberObjective:
    """Sum over points of Huber(LSE(a - alpha ln N, b - beta ln D, e) - ln L), quadratic within ``DELTA``.

    Values and gradients are in units of ``DELTA``, and N and D in those of their geometric means: alpha then
    says little about a, and descent is far shorter.
    """

    log_size: Float[np.ndarray, " P"]
    log_tokens: Float[np.ndarray, " P"]
    log_loss: Float[np.ndarray, " P"]
    middle: tuple[float, float]

    @classmethod
    def of(
        cls,
        num_parameters: Float[np.ndarray, " P"],
        num_tokens: Float[np.ndarray, " P"],
        loss: Float[np.ndarray, " P"],
    ) -> "HuberObjective":
        log_size, log_tokens = np.log(num_parameters), np.log(num_tokens)
        middle = float(log_size.mean()), float(log_tokens.mean())
        return cls(
            log_size=log_size - middle[0],
            log_tokens=log_tokens - middle[1],
            log_loss=np.log(loss),
            middle=middle,
        )

    def centred(self, unknowns: Float[np.ndarray, "S 5"]) -> Float[np.ndarray, "S 5"]:
        """Return unknowns of N and D as those of N and D over their means."""
        return self._shifted(unknowns, -1)

    def plain(self, unknowns: Float[np.ndarray, "S 5"]) -> Float[np.ndarray, "S 5"]:
        return self._shifted(unknowns, 1)

    def _shifted(self, unknowns: Float[np.ndarray, "S 5"], sign: int) -> Float[np.ndarray, "S 5"]:
        shifted = unknowns.copy()
        shifted[:, :2] += sign * unknowns[:, 3:] * np.array(self.middle)
        return shifted

    def terms(self, unknowns: Float[np.ndarray, "S 5"]) -> tuple[Float[np.ndarray, "S P"], Float[np.ndarray, "3 S P"]]:
        """Return ln L of centred unknowns, and what share of L each of the three terms is."""
        a, b, e, alpha, beta = unknowns.T[..., None]
        logs = a - alpha * self.log_size, b - beta * self.log_tokens, np.broadcast_to(e, (len(a), len(self.log_size)))
        top = np.maximum(np.maximum(logs[0], logs[1]), logs[2])
        parts = np.exp(np.stack(logs) - top)
        total = parts.sum(0)
        return top + np.log(total), parts / total

    def value(
        self, unknowns: Float[np.ndarray, "S 5"], weights: Float[np.ndarray, "S P"] | None = None
    ) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, "S 5"]]:
        """Return the objective over ``DELTA`` at centred unknowns, and its gradient; points may weigh more."""
        log_loss, shares = self.terms(unknowns)
        residual = (log_loss - self.log_loss) / DELTA
        inner = residual.clip(-1, 1)
        huber = DELTA * inner * (residual - inner / 2)
        if weights is not None:
            inner, huber = inner * weights, huber * weights
        size, tokens, floor = inner * shares
        gradient = [size.sum(1), tokens.sum(1), floor.sum(1), -(size @ self.log_size), -(tokens @ self.log_tokens)]
        return huber.sum(1), np.stack(gradient, 1)
