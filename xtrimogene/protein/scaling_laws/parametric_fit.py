"""Fit L(N, D) = E + A / N^alpha + B / D^beta, and say whether the points pin its constants down.

Letters: P points; S starts; B optima; R refits. The unknowns of a row: a = ln A, b = ln B, e = ln E, alpha, beta.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from jaxtyping import Float

from xtrimogene.config import require
from xtrimogene.protein.scaling_laws.basins import ALIKE, NOTHING, Basin, find_basins, place
from xtrimogene.protein.scaling_laws.checks import check_points
from xtrimogene.protein.scaling_laws.compute_optimal import Objective
from xtrimogene.protein.scaling_laws.huber import HuberObjective
from xtrimogene.protein.scaling_laws.parametric import ParametricLaw
from xtrimogene.protein.scaling_laws.quasi_newton import minimize_many
from xtrimogene.protein.scaling_laws.vpnls import grid_starts

Method = Literal["lbfgs", "vpnls"]

MOST_RIVALS = 8  # the optima that every resample starts from
MOST_SPREAD = 2.0  # of an interval's upper over its lower end; an exponent with a wider one is not identified


@dataclass(frozen=True, kw_only=True, slots=True)
class ParametricFit:
    """The best law, every other optimum, and how sure its constants are.

    ``intervals``: the middle 90 % of refits to resampled points, of E, A, B, alpha, beta and "parameters_exponent",
    beta / (alpha + beta); empty without refits. ``condition``: the condition number of the derivatives of ln L by the
    unknowns that were searched: all five or, for "vpnls", alpha and beta less what A, B and E can make up for; an E of
    0 is left out. ``warning``: one sentence where alpha and beta are not identified, else empty.
    """

    law: ParametricLaw
    method: Method
    objective: float
    basins: tuple[Basin, ...]
    condition: float
    intervals: dict[str, tuple[float, float]]
    warning: str

    @property
    def identified(self) -> bool:
        """Whether the points pin down alpha and beta."""
        return not self.warning

    def __str__(self) -> str:
        law = self.law
        ranges = [f"{name} [{low:.4g}, {high:.4g}]" for name, (low, high) in self.intervals.items()]
        lines = [
            f"{law.name}: L = {law.E:.5g} + {law.A:.5g} / N^{law.alpha:.5g} + {law.B:.5g} / D^{law.beta:.5g}",
            f"N grows as C^{law.parameters_exponent:.4g}; condition number {self.condition:.3g}",
            *([f"90 % of refits: {', '.join(ranges)}"] if ranges else []),
            *([f"Warning: {self.warning}"] if self.warning else []),
            *map(str, self.basins),
        ]
        return "\n".join(lines)


def fit_parametric(
    num_parameters: Float[np.ndarray, " P"],
    num_tokens: Float[np.ndarray, " P"],
    loss: Float[np.ndarray, " P"],
    *,
    name: str,
    objective: Objective,
    data: str,
    source: str = "fitted here",
    method: Method = "lbfgs",
    given: Sequence[ParametricLaw] = (),
    num_bootstraps: int = 100,
    seed: int = 0,
) -> ParametricFit:
    """Fit by the sum of Huber losses of ln L, from many starts, and refit to resampled points.

    Parameters
    ----------
    num_parameters
        Outside the embeddings.
    num_tokens
        Seen in training.
    loss
        Final validation loss, nats a token.
    method
        "lbfgs": a quasi-Newton descent from each of the 4,500 starts of Hoffmann et al. "vpnls": one from each local
        minimum of a grid over alpha and beta, where E, A and B are those of the least squared relative error.
    given
        Laws to start from as well: are constants that someone published an optimum of these points?
    num_bootstraps
        Refits to points drawn with replacement: from each of the eight best optima of the points themselves or, for
        "vpnls", from a grid of its own.

    Raises
    ------
    ConfigError
        There are fewer than six points, or all have one N or one D, or they are fitted best by a loss that rises with N
        or D.
    """
    columns = check_points(6, num_parameters=num_parameters, num_tokens=num_tokens, loss=loss)
    for what, values in zip(("num_parameters", "num_tokens"), columns, strict=False):
        require(bool(np.ptp(values) > 0), f"all points have {what} {values[0]:g}; add runs that differ in it.")
    huber = HuberObjective.of(*columns)
    whole = np.ones((1, len(loss)))
    starts = huber.centred(hoffmann_starts()) if method == "lbfgs" else grid_starts(huber, whole)[0]
    ends, basins = find_basins(huber, starts)
    _check_falls(basins)
    intervals = {}
    if num_bootstraps:
        even = np.full(len(loss), 1 / len(loss))
        weights = np.random.default_rng(seed).multinomial(len(loss), even, size=num_bootstraps).astype(float)
        intervals = _intervals(huber.plain(_refit(huber, ends, basins, method, weights)))
    best, flops = basins[0], 6 * columns[0] * columns[1]
    warning = _warning(best, intervals)
    law = ParametricLaw(
        name=name,
        objective=objective,
        E=best.E,
        A=best.A,
        B=best.B,
        alpha=best.alpha,
        beta=best.beta,
        fitted_flops=(float(flops.min()), float(flops.max())),
        data=data,
        source=source,
        caution=warning,
    )
    placed = [place(huber, other, basins) for other in given]
    return ParametricFit(
        law=law,
        method=method,
        objective=best.objective,
        basins=tuple(sorted([*basins, *placed], key=lambda basin: (basin.kind != "best", basin.objective))),
        condition=_condition(huber, ends[:1], method),
        intervals=intervals,
        warning=warning,
    )


def hoffmann_starts() -> Float[np.ndarray, "S 5"]:
    """Return the 4,500 starts of Hoffmann et al."""
    a = b = np.arange(0, 26, 5)
    alpha = beta = np.arange(0, 2.1, 0.5)
    return np.array(list(product(a, b, np.arange(-1, 1.1, 0.5), alpha, beta)), dtype=float)


def _check_falls(basins: Sequence[Basin]) -> None:
    lowest = min(basins, key=lambda basin: basin.objective)
    best = basins[0] if basins[0].objective <= lowest.objective * (1 + ALIKE) else lowest
    exponents = f"alpha {best.alpha:.3g}, beta {best.beta:.3g}"
    require(
        min(best.alpha, best.beta) > 0,
        f"these points are fitted best by a loss that rises with N or D ({exponents}), which is no law; check the "
        "columns, or add runs.",
    )


def _refit(
    huber: HuberObjective,
    ends: Float[np.ndarray, "B 5"],
    basins: Sequence[Basin],
    method: Method,
    weights: Float[np.ndarray, "R P"],
) -> Float[np.ndarray, "R 5"]:
    """Return the best optimum of each set of weights; descend twice, for kinks can leave one stuck."""
    if method == "vpnls":
        each = grid_starts(huber, weights)
    else:
        rivals = ends[[basin.kind != "degenerate" for basin in basins]][:MOST_RIVALS]
        each = [rivals] * len(weights)
    rows = np.repeat(np.arange(len(weights)), [len(starts) for starts in each])
    found, values = np.concatenate(each), np.empty(0)
    for _ in range(2):
        found, values = minimize_many(lambda x, which: huber.value(x, weights[rows[which]]), found)
    order = np.lexsort((values, rows))
    _, first = np.unique(rows[order], return_index=True)
    return found[order[first]]


def _intervals(refits: Float[np.ndarray, "R 5"]) -> dict[str, tuple[float, float]]:
    a, b, e, alpha, beta = refits.T
    values = {
        "E": np.where(e > np.log(NOTHING), np.exp(e), 0),
        "A": np.exp(a.clip(-700, 700)),
        "B": np.exp(b.clip(-700, 700)),
        "alpha": alpha,
        "beta": beta,
        "parameters_exponent": beta / (alpha + beta),
    }
    ends = {name: np.quantile(value, [0.05, 0.95]) for name, value in values.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _warning(best: Basin, intervals: dict[str, tuple[float, float]]) -> str:
    ratio = f"beta / (alpha + beta) = {best.beta / (best.alpha + best.beta):.3f}"
    if best.E == 0:
        return (
            "alpha and beta are not identified: the best E is 0, as low as it may go, and they make up for it; rely on "
            f"{ratio} alone."
        )
    wide = [
        f"{name} between {low:.3g} and {high:.3g}"
        for name in ("alpha", "beta")
        for low, high in [intervals.get(name, (1.0, 1.0))]
        if not 0 < low <= high < MOST_SPREAD * low
    ]
    if wide:
        return f"alpha and beta are not identified: refits leave {' and '.join(wide)}; rely on {ratio} alone."
    return ""


def _condition(huber: HuberObjective, end: Float[np.ndarray, "1 5"], method: Method) -> float:
    _, shares = huber.terms(end)
    size, tokens, floor = shares[:, 0]
    log_size, log_tokens = huber.log_size + huber.middle[0], huber.log_tokens + huber.middle[1]
    constants = np.stack([column for column in (size, tokens, floor) if column.max() > NOTHING], 1)
    exponents = np.stack([-size * log_size, -tokens * log_tokens], 1)
    if method == "lbfgs":
        return float(np.linalg.cond(np.hstack([constants, exponents])))
    basis, _ = np.linalg.qr(constants)
    return float(np.linalg.cond(exponents - basis @ (basis.T @ exponents)))
