"""Descend from many starts at once: BFGS, batched.

Of so few unknowns the whole inverse Hessian is kept, which L-BFGS would approximate from its last steps.
Letters: S starts; K unknowns.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

MAX_HALVINGS = 20
LONGEST_STEP = 25.0
STEADY_STEPS = 3
CHUNK = 512  # starts that go together: their arrays stay near the processor

Function = Callable[
    [Float[np.ndarray, "S K"], Int[np.ndarray, " S"]], tuple[Float[np.ndarray, " S"], Float[np.ndarray, "S K"]]
]


def minimize_many(
    function: Function, starts: Float[np.ndarray, "S K"], *, tolerance: float = 1e-9, max_steps: int = 400
) -> tuple[Float[np.ndarray, "S K"], Float[np.ndarray, " S"]]:
    """Return where each start ends and the value there.

    ``function`` takes points and the number of the start that each came from, and returns values and gradients. A
    descent ends when three steps in a row lower the value by less than ``tolerance`` of it.
    """
    ends, values = starts.copy(), np.empty(len(starts))
    for first in range(0, len(starts), CHUNK):
        which = np.arange(first, min(first + CHUNK, len(starts)))
        _descend(function, which, ends, values, tolerance, max_steps)
    return ends, values


def _descend(
    function: Function,
    which: Int[np.ndarray, " S"],
    ends: Float[np.ndarray, "T K"],
    values: Float[np.ndarray, " T"],
    tolerance: float,
    max_steps: int,
) -> None:
    x = ends[which]
    value, gradient = function(x, which)
    inverse = np.zeros((*x.shape, x.shape[1]))
    steady = np.zeros(len(x), dtype=int)
    for _ in range(max_steps):
        direction = -np.einsum("sij,sj->si", inverse, gradient)
        lost = (direction * gradient).sum(1) >= -1e-300  # none yet, or not positive definite any more
        direction[lost] = -_unit(gradient[lost])
        direction *= np.minimum(1, LONGEST_STEP / np.abs(direction).max(1).clip(LONGEST_STEP))[:, None]
        found = _search(function, which, x, value, gradient, direction)
        inverse = _update(inverse, lost, found[0] - x, found[2] - gradient)
        steady = np.where(value - found[1] <= tolerance * np.abs(found[1]), steady + 1, 0)
        x, value, gradient = found
        done = steady >= STEADY_STEPS
        if done.any():
            ends[which[done]], values[which[done]] = x[done], value[done]
            which, x, value, gradient = which[~done], x[~done], value[~done], gradient[~done]
            inverse, steady = inverse[~done], steady[~done]
        if not len(which):
            return
    ends[which], values[which] = x, value


def _unit(vectors: Float[np.ndarray, "S K"]) -> Float[np.ndarray, "S K"]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-300)


def _search(
    function: Function,
    which: Int[np.ndarray, " S"],
    x: Float[np.ndarray, "S K"],
    value: Float[np.ndarray, " S"],
    gradient: Float[np.ndarray, "S K"],
    direction: Float[np.ndarray, "S K"],
) -> tuple[Float[np.ndarray, "S K"], Float[np.ndarray, " S"], Float[np.ndarray, "S K"]]:
    """Go along each direction, shorter until the value falls enough (Armijo); stay where it never does."""
    new_x, new_value, new_gradient = x.copy(), value.copy(), gradient.copy()
    slope = (direction * gradient).sum(1)
    length = np.ones(len(x))
    left = np.arange(len(x))
    for _ in range(MAX_HALVINGS):
        tried = x[left] + length[left, None] * direction[left]
        tried_value, tried_gradient = function(tried, which[left])
        enough = tried_value <= value[left] + 1e-4 * length[left] * slope[left]
        there = left[enough]
        new_x[there], new_value[there], new_gradient[there] = (
            tried[enough],
            tried_value[enough],
            tried_gradient[enough],
        )
        left = left[~enough]
        if not len(left):
            break
        length[left] *= 0.3
    return new_x, new_value, new_gradient


def _update(
    inverse: Float[np.ndarray, "S K K"],
    fresh: Bool[np.ndarray, " S"],
    step: Float[np.ndarray, "S K"],
    change: Float[np.ndarray, "S K"],
) -> Float[np.ndarray, "S K K"]:
    """Return the BFGS update; a ``fresh`` inverse begins as a multiple of the identity, of this step's curvature.

    Where the function curves downwards along the step, there is no minimum that way yet, and the next is longer.
    """
    along = (step * change).sum(1)
    least = 1e-12 * np.linalg.norm(step, axis=1) * np.linalg.norm(change, axis=1)
    sound, downwards = along > least, along < -least
    safe = np.where(sound, along, 1)
    size = np.where(sound, safe / (change**2).sum(1).clip(1e-300), 0)
    inverse = np.where(fresh[:, None, None], size[:, None, None] * np.eye(step.shape[1]), inverse)
    weight = np.where(sound, 1 / safe, 0)[:, None, None]
    turned = np.einsum("sij,sj->si", inverse, change)
    cross = turned[:, :, None] * step[:, None, :]
    outer = step[:, :, None] * step[:, None, :]
    curvature = (change * turned).sum(1)[:, None, None]
    updated = inverse + weight * ((1 + weight * curvature) * outer - cross - np.swapaxes(cross, 1, 2))
    return np.where(downwards[:, None, None], 4 * inverse, updated)
