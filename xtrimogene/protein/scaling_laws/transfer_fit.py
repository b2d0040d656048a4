"""Measure how many MLM tokens CLM training has saved, and fit its law.

Letters: P points of a curve; V pairs; K tokens at which a curve is read; R refits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from xtrimogene.config import require
from xtrimogene.protein.scaling_laws.checks import check_points
from xtrimogene.protein.scaling_laws.power_fit import fit_powers
from xtrimogene.protein.scaling_laws.power_law import PowerLaw
from xtrimogene.protein.scaling_laws.transfer import TransferLaw

LAST = 5  # points of a curve whose mean is its final loss
WINDOW = 9  # points of a curve that are averaged before it is asked when it first gets to a loss
WARM = 0.1  # of a curve: what the smooth curve leaves out at its start
DEGREE = 3  # of ln loss as a polynomial of ln tokens
READINGS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferPair:
    """MLM validation loss by MLM tokens, from scratch and after CLM, of two models of one size.

    ``flops`` is the MLM budget of both, ``first_flops`` what CLM took before the second.
    """

    num_parameters: float
    flops: float
    first_flops: float
    scratch_tokens: Float[np.ndarray, " P"]
    scratch_loss: Float[np.ndarray, " P"]
    transfer_tokens: Float[np.ndarray, " Q"]
    transfer_loss: Float[np.ndarray, " Q"]

    @property
    def final_losses(self) -> tuple[float, float]:
        """From scratch and after CLM, the mean of the last 5 points."""
        return float(self.scratch_loss[-LAST:].mean()), float(self.transfer_loss[-LAST:].mean())

    @property
    def saved_tokens(self) -> float:
        """How many tokens earlier the second model, its loss averaged over 9 points, has the first's final loss.

        Raises
        ------
        ConfigError
            It never has.
        """
        final, _ = self.final_losses
        counts = np.convolve(np.ones(len(self.transfer_loss)), np.ones(WINDOW), "same")
        smooth = np.convolve(self.transfer_loss, np.ones(WINDOW), "same") / counts
        there = np.flatnonzero(smooth <= final)
        require(
            there.size > 0,
            f"the model of {self.num_parameters:g} parameters never gets from CLM to the {final:.4f} of its pair from "
            "scratch; there are no tokens it has saved.",
        )
        return float(self.scratch_tokens[-1] - self.transfer_tokens[there[0]])


def fit_transfer(
    pairs: Sequence[TransferPair],
    *,
    name: str,
    data: str,
    source: str = "fitted here",
    num_bootstraps: int = 100,
    seed: int = 0,
) -> TransferLaw:
    """Fit D_t = k D_f^alpha N^beta along the curves, and powers of the MLM budget through the final losses.

    Each curve is smoothed, ln loss as a cubic of ln tokens past its first tenth. At 20 numbers of tokens D_f of the
    second curve, D_t is how many tokens further on the first has the same loss; those that it never has are left out.
    The law is the least-squares plane of the logarithms, each pair counting alike.

    Parameters
    ----------
    num_bootstraps
        Refits to the smooth curves with noise of the size that they leave.

    Raises
    ------
    ConfigError
        There are fewer than three sizes, or a second curve does not lie below its first.
    """
    sizes = {pair.num_parameters for pair in pairs}
    require(len(sizes) >= 3, f"pairs of {len(sizes)} sizes are too few; at least 3 are needed.")
    curves = [
        (_Curve.of(p.scratch_tokens, p.scratch_loss), _Curve.of(p.transfer_tokens, p.transfer_loss)) for p in pairs
    ]
    random = np.random.default_rng(seed)
    best = _plane(pairs, curves)
    again = [
        _plane(pairs, [(one.noisy(random), other.noisy(random)) for one, other in curves])
        for _ in range(num_bootstraps)
    ]
    budgets = np.array([[pair.flops for pair in pairs]] * 2)
    (scratch, transfer) = fit_powers(budgets, np.array([pair.final_losses for pair in pairs]).T)
    shares = [pair.first_flops / (pair.first_flops + pair.flops) for pair in pairs]
    return TransferLaw(
        name=name,
        k=best[0],
        alpha=best[1],
        beta=best[2],
        scratch=PowerLaw(coefficient=float(scratch[0]), exponent=float(scratch[1])),
        transfer=PowerLaw(coefficient=float(transfer[0]), exponent=float(transfer[1])),
        first_share=(min(shares), max(shares)),
        fitted_parameters=(min(sizes), max(sizes)),
        data=data,
        source=source,
        refits=tuple(again),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Curve:
    """A smooth curve: the coefficients of ln loss, in ln tokens over those at the end."""

    log_tokens: Float[np.ndarray, " P"]
    log_loss: Float[np.ndarray, " P"]
    end: float
    coefficients: Float[np.ndarray, " 4"]

    @classmethod
    def of(cls, tokens: Float[np.ndarray, " P"], loss: Float[np.ndarray, " P"]) -> "_Curve":
        tokens, loss = check_points(30, tokens=tokens, loss=loss)
        warm = tokens >= WARM * tokens[-1]
        return cls._through(np.log(tokens[warm]), np.log(loss[warm]))

    @classmethod
    def _through(cls, log_tokens: Float[np.ndarray, " P"], log_loss: Float[np.ndarray, " P"]) -> "_Curve":
        end = float(log_tokens[-1])
        fitted = np.polyfit(log_tokens - end, log_loss, DEGREE)
        return cls(log_tokens=log_tokens, log_loss=log_loss, end=end, coefficients=fitted)

    def at(self, log_tokens: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
        return np.polyval(self.coefficients, log_tokens - self.end)

    def noisy(self, random: np.random.Generator) -> "_Curve":
        """Return the curve through itself and noise like its own."""
        smooth = self.at(self.log_tokens)
        noise = np.sqrt(((self.log_loss - smooth) ** 2).sum() / (len(smooth) - DEGREE - 1))
        return self._through(self.log_tokens, smooth + noise * random.standard_normal(len(smooth)))


def _plane(pairs: Sequence[TransferPair], curves: Sequence[tuple[_Curve, _Curve]]) -> tuple[float, float, float]:
    rows, targets, weights = [], [], []
    for pair, (scratch, transfer) in zip(pairs, curves, strict=True):
        tokens, saved = _saved_along(scratch, transfer)
        require(
            len(tokens) > 0,
            f"after CLM the model of {pair.num_parameters:g} parameters is never ahead of its pair from scratch; leave "
            "the pair out.",
        )
        log_size = np.full(len(tokens), np.log(pair.num_parameters))
        rows.append(np.stack([np.ones(len(tokens)), np.log(tokens), log_size], 1))
        targets.append(np.log(saved))
        weights.append(np.full(len(tokens), len(tokens) ** -0.5))
    weight = np.concatenate(weights)
    solution, *_ = np.linalg.lstsq(np.concatenate(rows) * weight[:, None], np.concatenate(targets) * weight, rcond=None)
    return float(np.exp(solution[0])), float(solution[1]), float(solution[2])


def _saved_along(scratch: _Curve, transfer: _Curve) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Return tokens of the second curve, and how many more the first takes to the same loss."""
    first = np.linspace(scratch.log_tokens[0], scratch.log_tokens[-1], 2_000)
    reached = np.minimum.accumulate(scratch.at(first))
    log_tokens = np.linspace(transfer.log_tokens[0], transfer.log_tokens[-1], READINGS)
    loss = transfer.at(log_tokens)
    found = np.exp(np.interp(-loss, -reached, first))
    saved = found - np.exp(log_tokens)
    known = (loss >= reached[-1]) & (loss <= reached[0]) & (saved > 0)
    return np.exp(log_tokens[known]), saved[known]
