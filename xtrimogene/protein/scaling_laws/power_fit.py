"""Fit powers to many rows of points at once.

Letters: R rows, each a fit of its own; P points of a row.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float

Space = Literal["linear", "log"]

MAX_STEPS = 200


def fit_powers(
    x: Float[np.ndarray, "R P"],
    y: Float[np.ndarray, "R P"],
    space: Space = "linear",
    weights: Float[np.ndarray, "R P"] | None = None,
) -> Float[np.ndarray, "R 2"]:
    """Return coefficient and exponent of each row by least squares of y ("linear") or of ln y ("log").

    Those of y are what the largest points say; they start from those of ln y, in units in which both are near 1.
    """
    weight = np.ones_like(x) if weights is None else weights
    weight = weight / weight.sum(1, keepdims=True)
    log_x, log_y = np.log(x), np.log(y)
    middle = (weight * log_x).sum(1, keepdims=True)
    u = log_x - middle
    level = (weight * log_y).sum(1)
    exponent = (weight * u * log_y).sum(1) / (weight * u**2).sum(1)
    if space == "linear":
        level, exponent = _least_squares(u, y, weight, level, exponent)
    return np.stack([np.exp(level - exponent * middle[:, 0]), exponent], 1)


def reflect(
    best: Float[np.ndarray, "3 2"], truth: Float[np.ndarray, "3 1 2"], again: Float[np.ndarray, "3 R 2"]
) -> Float[np.ndarray, "3 R 2"]:
    """Return refits to simulated runs as far from ``best`` as they lie from the truth simulated, on the other side.

    The noise of the runs is in ``best`` once; refits about the runs themselves would have it twice.
    """
    mirrored = np.empty_like(again)
    mirrored[..., 0] = best[:, None, 0] * truth[..., 0] / again[..., 0]
    mirrored[..., 1] = best[:, None, 1] + truth[..., 1] - again[..., 1]
    return mirrored


def _least_squares(
    u: Float[np.ndarray, "R P"],
    y: Float[np.ndarray, "R P"],
    weight: Float[np.ndarray, "R P"],
    level: Float[np.ndarray, " R"],
    exponent: Float[np.ndarray, " R"],
) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """Fit exp(level + exponent u) to y by damped Gauss-Newton."""
    scale = y.max(1)
    y = y / scale[:, None]
    level = level - np.log(scale)
    damping = np.full_like(level, 1e-3)
    value = np.exp(level[:, None] + exponent[:, None] * u)
    error = (weight * (y - value) ** 2).sum(1)
    for _ in range(MAX_STEPS):
        slope, residual = weight * value, y - value
        aa, ab, bb = ((slope * value * u**k).sum(1) for k in range(3))
        ga, gb = (slope * residual).sum(1), (slope * residual * u).sum(1)
        aa, bb = aa * (1 + damping), bb * (1 + damping)
        determinant = aa * bb - ab**2
        step_a, step_b = (bb * ga - ab * gb) / determinant, (aa * gb - ab * ga) / determinant
        tried = np.exp((level + step_a)[:, None] + (exponent + step_b)[:, None] * u)
        tried_error = (weight * (y - tried) ** 2).sum(1)
        better = tried_error <= error
        level, exponent = level + better * step_a, exponent + better * step_b
        value = np.where(better[:, None], tried, value)
        error = np.where(better, tried_error, error)
        damping = np.where(better, damping / 10, damping * 10).clip(1e-15, 1e15)
        if np.all(np.maximum(np.abs(step_a), np.abs(step_b)) < 1e-13):
            break
    return level + np.log(scale), exponent
