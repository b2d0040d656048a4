"""Fit a law to runs of several sizes at each of a few budgets (approach 2 of Hoffmann et al., arXiv 2203.15556).

Letters: P runs; B budgets; M the most runs of a budget; R sets of losses, each a fit of its own.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from xtrimogene.config import require
from xtrimogene.protein.scaling_laws.checks import check_points
from xtrimogene.protein.scaling_laws.compute_optimal import ComputeOptimalLaw, Objective
from xtrimogene.protein.scaling_laws.power_fit import Space, fit_powers, reflect
from xtrimogene.protein.scaling_laws.power_law import PowerLaw

Minimum = Literal["raw", "parabola"]
Refits = Literal["reflected", "noise", "runs"]


def fit_isoflop(
    flops: Float[np.ndarray, " P"],
    num_parameters: Float[np.ndarray, " P"],
    loss: Float[np.ndarray, " P"],
    *,
    name: str,
    objective: Objective,
    data: str,
    source: str = "fitted here",
    minimum: Minimum = "parabola",
    fit: Space = "log",
    refits: Refits = "reflected",
    num_bootstraps: int = 200,
    noise: float | None = None,
    seed: int = 0,
) -> ComputeOptimalLaw:
    """Return the powers of compute through the best size at each budget, its tokens C / 6N, and its loss.

    Parameters
    ----------
    flops
        The budget of each run, the same number for all runs of a budget.
    num_parameters
        Outside the embeddings.
    loss
        Final validation loss, nats a token.
    minimum
        The best size is the vertex of a parabola in ln N, or that of the least loss ("raw"). In simulated runs with a
        noise of .01 the first is 7 times less uncertain.
    fit
        Least squares of the logarithms of N, D and loss, or of themselves, which the largest budgets decide. Cheng et
        al. published "raw" and "linear".
    refits
        How the refits come about that intervals are read from. "reflected": simulate runs on the parabola of each
        budget; how far their fits fall from the parabolas' own, on the other side of this fit. "noise": add noise to
        the losses found. "runs": draw the runs of a budget anew, with noise if it is given. Of simulated laws, 90 %
        intervals of the first hold the truth in 85 to 95 %; those of the others hold it more often where the minimum
        is raw, whose noise they count twice.
    noise
        Standard deviation of the loss from run to run; None: what the parabolas leave.

    Raises
    ------
    ConfigError
        There are fewer than two budgets, a budget of fewer than three sizes, or a parabola without a minimum.
    """
    runs = _by_budget(*check_points(6, flops=flops, num_parameters=num_parameters, loss=loss))
    smooth = _Parabolas.of(runs, runs.loss[None])
    known = smooth.has_minimum[0]
    require(
        minimum == "raw" or bool(known.all()),
        f"at {runs.flops[known.argmin()]:g} FLOPs the parabola has no minimum near the sizes tried; add sizes where "
        "the loss still falls, or use minimum='raw'.",
    )
    log_size, least_loss = _optima(runs, runs.loss[None], minimum)
    best = _powers(runs, log_size, least_loss, fit)[:, 0]
    again = _refit(runs, smooth, best, minimum, fit, refits, num_bootstraps, noise, np.random.default_rng(seed))
    size, tokens, loss_law = map(PowerLaw.of_rows, best, again)
    return ComputeOptimalLaw(
        name=name,
        objective=objective,
        num_parameters=size,
        num_tokens=tokens,
        loss=loss_law,
        fitted_flops=(float(runs.flops[0]), float(runs.flops[-1])),
        data=data,
        source=source,
        caution=_caution(runs, log_size[0]),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Runs:
    """Runs by budget, sizes rising; where a budget has fewer than M, ``there`` is False and the loss infinite."""

    flops: Float[np.ndarray, " B"]
    log_size: Float[np.ndarray, "B M"]
    loss: Float[np.ndarray, "B M"]
    there: Bool[np.ndarray, "B M"]


def _by_budget(
    flops: Float[np.ndarray, " P"], num_parameters: Float[np.ndarray, " P"], loss: Float[np.ndarray, " P"]
) -> _Runs:
    budgets, counts = np.unique(flops, return_counts=True)
    require(len(budgets) >= 2, f"runs of at least two budgets are needed; all have {budgets[0]:g} FLOPs.")
    shape = (len(budgets), int(counts.max()))
    there = np.arange(shape[1]) < counts[:, None]
    log_size, losses = np.zeros(shape), np.full(shape, np.inf)
    order = np.lexsort((num_parameters, flops))
    log_size[there], losses[there] = np.log(num_parameters[order]), loss[order]
    for budget, sizes, present in zip(budgets, log_size, there, strict=True):
        distinct = len(np.unique(sizes[present]))
        require(
            distinct >= 3,
            f"at {budget:g} FLOPs there are {distinct} sizes; at least 3 are needed: give every run its budget's "
            "number, not the compute it came to, or leave the budget out.",
        )
    return _Runs(flops=budgets, log_size=log_size, loss=losses, there=there)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parabolas:
    """Loss = c0 + c1 x + c2 x^2 of x, a budget's ln N less its mean and over its spread."""

    coefficients: Float[np.ndarray, "R B 3"]
    middle: Float[np.ndarray, " B"]
    spread: Float[np.ndarray, " B"]
    x: Float[np.ndarray, "B M"]

    @classmethod
    def of(
        cls, runs: _Runs, losses: Float[np.ndarray, "R B M"], copies: Float[np.ndarray, "R B M"] | None = None
    ) -> "_Parabolas":
        """Fit them by least squares, a run as often as there are ``copies`` of it."""
        middle = runs.log_size.mean(1, where=runs.there)
        spread = runs.log_size.std(1, where=runs.there)
        x = np.where(runs.there, (runs.log_size - middle[:, None]) / spread[:, None], 0)
        powers = np.stack([np.ones_like(x), x, x**2], -1) * runs.there[..., None]
        known = np.where(np.isfinite(losses), losses, 0)
        weights = np.isfinite(losses).astype(float) if copies is None else copies
        left = np.einsum("rbm,bmi,bmj->rbij", weights, powers, powers)
        left += 1e-9 * np.eye(3)  # a resample of a budget may hold fewer than three sizes
        right = np.einsum("rbm,bmi->rbi", weights * known, powers)
        return cls(coefficients=np.linalg.solve(left, right[..., None])[..., 0], middle=middle, spread=spread, x=x)

    @property
    def vertex(self) -> Float[np.ndarray, "R B"]:
        """Where the loss is least, in x; not a number for a parabola that has no minimum."""
        _, slope, curvature = np.moveaxis(self.coefficients, -1, 0)
        return np.divide(-slope, 2 * curvature, out=np.full_like(slope, np.nan), where=curvature > 0)

    @property
    def has_minimum(self) -> Bool[np.ndarray, "R B"]:
        """Whether there is a vertex no more than one spread outside the sizes tried."""
        return (self.vertex >= self.x.min(1) - 1) & (self.vertex <= self.x.max(1) + 1)

    def loss(self, x: Float[np.ndarray, "R B M"]) -> Float[np.ndarray, "R B M"]:
        constant, slope, curvature = np.moveaxis(self.coefficients[..., None, :], -1, 0)
        return constant + slope * x + curvature * x**2


def _optima(
    runs: _Runs,
    losses: Float[np.ndarray, "R B M"],
    minimum: Minimum,
    copies: Float[np.ndarray, "R B M"] | None = None,
) -> tuple[Float[np.ndarray, "R B"], Float[np.ndarray, "R B"]]:
    """Return ln N and loss of the best size; a parabola without a minimum gives way to the raw one."""
    least = losses.argmin(-1)[..., None]
    log_size = np.take_along_axis(np.broadcast_to(runs.log_size, losses.shape), least, -1)[..., 0]
    loss = np.take_along_axis(losses, least, -1)[..., 0]
    if minimum == "raw":
        return log_size, loss
    parabolas = _Parabolas.of(runs, losses, copies)
    vertex, known = parabolas.vertex, parabolas.has_minimum
    at_vertex = parabolas.loss(vertex[..., None])[..., 0]
    return np.where(known, vertex * parabolas.spread + parabolas.middle, log_size), np.where(known, at_vertex, loss)


def _powers(
    runs: _Runs, log_size: Float[np.ndarray, "R B"], loss: Float[np.ndarray, "R B"], fit: Space
) -> Float[np.ndarray, "3 R 2"]:
    """Return coefficient and exponent of N, D and loss."""
    flops = np.broadcast_to(runs.flops, log_size.shape)
    size = np.exp(log_size)
    return np.stack([fit_powers(flops, y, fit) for y in (size, flops / (6 * size), loss)])


def _refit(
    runs: _Runs,
    smooth: _Parabolas,
    best: Float[np.ndarray, "3 2"],
    minimum: Minimum,
    fit: Space,
    refits: Refits,
    count: int,
    noise: float | None,
    random: np.random.Generator,
) -> Float[np.ndarray, "3 R 2"]:
    shape = (count, *runs.loss.shape)
    smoothed = np.where(runs.there, smooth.loss(smooth.x[None]), np.inf)[0]
    if noise is None:
        spare = runs.there.sum() - 3 * len(runs.flops)  # a parabola takes three
        left = runs.loss[runs.there] - smoothed[runs.there]
        noise = 0.0 if refits == "runs" else float(np.sqrt((left**2).sum() / max(spare, 1)))
    losses = (smoothed if refits == "reflected" else runs.loss) + noise * random.standard_normal(shape)
    copies = None
    if refits == "runs":
        copies = _draw_runs(runs, count, random)
        losses = np.where(copies > 0, losses, np.inf)
    again = _powers(runs, *_optima(runs, losses, minimum, copies), fit)
    if refits != "reflected":
        return again
    truth = _powers(runs, *_optima(runs, smoothed[None], "parabola"), fit)
    return reflect(best, truth, again)


def _draw_runs(runs: _Runs, count: int, random: np.random.Generator) -> Float[np.ndarray, "R B M"]:
    """Return how often each run was drawn, with replacement, among those of its budget."""
    copies = np.zeros((count, *runs.loss.shape))
    for budget, present in enumerate(runs.there.sum(1)):
        copies[:, budget, :present] = random.multinomial(present, np.full(present, 1 / present), size=count)
    return copies


def _caution(runs: _Runs, log_size: Float[np.ndarray, " B"]) -> str:
    sizes = runs.log_size
    last = np.where(runs.there, sizes, -np.inf).max(1)
    ends = runs.flops[(log_size <= sizes[:, 0]) | (log_size >= last)]
    if not ends.size:
        return ""
    budgets = ", ".join(f"{flops:g}" for flops in ends)
    return f"At {budgets} FLOPs the best size is at an end of those tried or beyond: it is not measured well."
