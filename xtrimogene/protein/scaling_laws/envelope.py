"""Fit a law to the lower envelope of training curves (approach 1 of Hoffmann et al., arXiv 2203.15556).

Letters: P points of all curves; Q runs; B bins of compute; R refits.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from xtrimogene.config import require
from xtrimogene.protein.scaling_laws.checks import check_points
from xtrimogene.protein.scaling_laws.compute_optimal import ComputeOptimalLaw, Objective
from xtrimogene.protein.scaling_laws.power_fit import Space, fit_powers, reflect
from xtrimogene.protein.scaling_laws.power_law import PowerLaw

LEAST_BINS = 3
NEAR = 0.05  # of the envelope's loss: what lies higher above it is no part of the fit
SURFACE_SIZES = 400  # at which the surface's least loss is looked for


def fit_envelope(
    flops: Float[np.ndarray, " P"],
    num_parameters: Float[np.ndarray, " P"],
    loss: Float[np.ndarray, " P"],
    *,
    name: str,
    objective: Objective,
    data: str,
    source: str = "fitted here",
    run: Shaped[np.ndarray, " P"] | None = None,
    between: tuple[float, float] | None = None,
    num_bins: int = 200,
    fit: Space = "log",
    num_bootstraps: int = 200,
    seed: int = 0,
) -> ComputeOptimalLaw:
    """Return the powers of compute through the size that has the least loss at each compute, its tokens and its loss.

    A curve whose learning rate is still high lies above what its run would reach had it been planned to end there, so
    this is the roughest of the fits.

    Parameters
    ----------
    flops
        Spent so far.
    num_parameters
        Outside the embeddings.
    loss
        Validation loss then, nats a token.
    run
        Which run a point belongs to; None: all points of a size are one run.
    between
        The compute to use; None: all. Leave out what lies below the best compute of the smallest size, and above that
        of the largest.
    num_bins
        Of log compute; a run's loss in a bin is its mean there, and the run with the least is the envelope.
    num_bootstraps
        Refits to runs simulated on a smooth surface, a cubic of ln C and ln N through the points within 5 % of the
        envelope, each with the residual curve of a run drawn at random; how far their fits fall from the surface's own
        is put on the other side of this fit. Drawing the runs themselves anew would lose sizes, and twice as much.

    Raises
    ------
    ConfigError
        There are fewer than three bins with points, or one size is the best in all of them.
    """
    columns = check_points(LEAST_BINS, flops=flops, num_parameters=num_parameters, loss=loss)
    run = columns[1] if run is None else run
    low, high = between or (float(columns[0].min()), float(columns[0].max()))
    require(0 < low < high, f"between=({low:g}, {high:g}) must rise and be positive.")
    spent, size, reached = columns
    require(bool(np.any((spent >= low) & (spent <= high))), f"no point lies between {low:g} and {high:g} FLOPs.")
    curves = _bin_curves(spent, size, reached, run, np.geomspace(low, high, num_bins + 1))
    used = np.isfinite(curves.loss).any(0)
    require(int(used.sum()) >= LEAST_BINS, f"{used.sum()} bins hold points; at least {LEAST_BINS} are needed.")
    winners = np.unique(curves.size[curves.loss[:, used].argmin(0)])
    require(len(winners) > 1, f"the size {winners[0]:g} is the best throughout; add runs of other sizes.")
    best = _powers(curves, curves.loss[None], fit)[:, 0]
    again = _refit(curves, best, fit, num_bootstraps, np.random.default_rng(seed))
    size_law, tokens_law, loss_law = map(PowerLaw.of_rows, best, again)
    return ComputeOptimalLaw(
        name=name,
        objective=objective,
        num_parameters=size_law,
        num_tokens=tokens_law,
        loss=loss_law,
        fitted_flops=(float(curves.flops[0]), float(curves.flops[-1])),
        data=data,
        source=source,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Curves:
    """Loss of each run by bin of compute, infinite where it was not measured or lies far above the envelope."""

    size: Float[np.ndarray, " Q"]
    flops: Float[np.ndarray, " B"]
    loss: Float[np.ndarray, "Q B"]


def _bin_curves(
    flops: Float[np.ndarray, " P"],
    num_parameters: Float[np.ndarray, " P"],
    loss: Float[np.ndarray, " P"],
    run: Shaped[np.ndarray, " P"],
    edges: Float[np.ndarray, " E"],
) -> _Curves:
    """Return the mean loss of each run in each bin that holds points; a bin stands for the middle of its points."""
    runs, which = np.unique(run, return_inverse=True)
    inside = (flops >= edges[0]) & (flops <= edges[-1])
    which, flops, num_parameters, loss = which[inside], flops[inside], num_parameters[inside], loss[inside]
    bins = (np.searchsorted(edges, flops, side="right") - 1).clip(0, len(edges) - 2)
    shape = (len(runs), len(edges) - 1)
    cell = which * shape[1] + bins
    counts = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    sums = np.bincount(cell, loss, minlength=shape[0] * shape[1]).reshape(shape)
    logs = np.bincount(bins, np.log(flops), minlength=shape[1])
    held = counts.any(0)
    taking_part = counts.any(1)
    counts, sums = counts[taking_part][:, held], sums[taking_part][:, held]
    mean = np.divide(sums, counts, out=np.full(sums.shape, np.inf), where=counts > 0)
    mean[mean > mean.min(0) * (1 + NEAR)] = np.inf
    size = np.zeros(len(runs))
    size[which] = num_parameters
    return _Curves(
        size=size[taking_part], flops=np.exp(logs[held] / np.bincount(bins, minlength=shape[1])[held]), loss=mean
    )


def _powers(curves: _Curves, losses: Float[np.ndarray, "R Q B"], fit: Space) -> Float[np.ndarray, "3 R 2"]:
    """Return coefficient and exponent of N, D and loss along each envelope."""
    return _through(curves.flops, curves.size[losses.argmin(1)], losses.min(1), fit)


def _through(
    flops: Float[np.ndarray, " B"], size: Float[np.ndarray, "R B"], loss: Float[np.ndarray, "R B"], fit: Space
) -> Float[np.ndarray, "3 R 2"]:
    spent = np.broadcast_to(flops, size.shape)
    return np.stack([fit_powers(spent, y, fit) for y in (size, spent / (6 * size), loss)])


def _refit(
    curves: _Curves, best: Float[np.ndarray, "3 2"], fit: Space, count: int, random: np.random.Generator
) -> Float[np.ndarray, "3 R 2"]:
    there = np.isfinite(curves.loss)
    log_flops, log_size = _standard(np.log(curves.flops)), _standard(np.log(curves.size))
    terms = _cubic(log_flops, log_size[:, None])
    surface, *_ = np.linalg.lstsq(terms[there], curves.loss[there], rcond=None)
    smooth = np.where(there, terms @ surface, np.inf)
    residual = np.where(there, curves.loss, 0) - np.where(there, smooth, 0)
    spare = there.sum() / max(there.sum() - terms.shape[-1], 1)
    drawn = random.integers(0, len(residual), (count, len(residual)))
    taken = np.where(there[drawn], residual[drawn], residual) * np.sqrt(spare)
    again = _powers(curves, smooth + taken * random.choice([-1, 1], (count, len(residual), 1)), fit)
    low, high = (pick(np.where(there, log_size[:, None], np.nan), 0) for pick in (np.nanmin, np.nanmax))
    tried = np.linspace(low, high, SURFACE_SIZES)
    heights = _cubic(log_flops, tried) @ surface
    lowest = np.take_along_axis(tried, heights.argmin(0)[None], 0)
    sizes = np.exp(np.log(curves.size).mean() + np.log(curves.size).std() * lowest)
    truth = _through(curves.flops, sizes, heights.min(0)[None], fit)
    return reflect(best, truth, again)


def _standard(x: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    return (x - x.mean()) / x.std()


def _cubic(x: Float[np.ndarray, "*X"], y: Float[np.ndarray, "*Y"]) -> Float[np.ndarray, "*Z 10"]:
    return np.stack(np.broadcast_arrays(*[x**i * y**j for i in range(4) for j in range(4 - i)]), -1)
