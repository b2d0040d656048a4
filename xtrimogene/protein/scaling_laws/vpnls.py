"""Variable projection: of alpha and beta on a grid, the best E, A and B >= 0 in closed form.

What it makes least is the sum over points of the squared relative error, ((E + A / N^alpha + B / D^beta) / L - 1)^2,
near enough to that of ln L. Two unknowns are searched instead of five, so no start can be a bad one.
Letters: P points; I alphas; J betas; R sets of weights; S starts.
"""

from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float

from xtrimogene.protein.scaling_laws.huber import HuberObjective

EXPONENTS = np.geomspace(0.01, 2.0, 60)
SMALLEST = 1e-12  # of L: what a constant of 0 is where its logarithm is needed


def grid_starts(objective: HuberObjective, weights: Float[np.ndarray, "R P"]) -> list[Float[np.ndarray, "S 5"]]:
    """Return, for each set of weights, the centred unknowns of every local minimum of the grid."""
    loss = np.exp(objective.log_loss)
    sizes = np.exp(-EXPONENTS[:, None] * objective.log_size) / loss  # (I, P)
    tokens = np.exp(-EXPONENTS[:, None] * objective.log_tokens) / loss  # (J, P)
    starts = []
    for weight in weights:
        error, constants = _project(1 / loss, sizes, tokens, weight)
        i, j = np.nonzero(_local_minima(error))
        a, b, e = np.log(constants[i, j].clip(SMALLEST)).T
        starts.append(np.stack([a, b, e, EXPONENTS[i], EXPONENTS[j]], 1))
    return starts


def _project(
    floor: Float[np.ndarray, " P"],
    sizes: Float[np.ndarray, "I P"],
    tokens: Float[np.ndarray, "J P"],
    weight: Float[np.ndarray, " P"],
) -> tuple[Float[np.ndarray, "I J"], Float[np.ndarray, "I J 3"]]:
    """Return the least weighted squared error at each alpha and beta, and A, B and E there."""
    shape = (len(sizes), len(tokens))
    weighted_sizes, weighted_tokens = sizes * weight, tokens * weight
    gram = np.empty((*shape, 3, 3))
    gram[..., 0, 0] = (weighted_sizes * sizes).sum(1)[:, None]
    gram[..., 1, 1] = (weighted_tokens * tokens).sum(1)
    gram[..., 2, 2] = weight @ floor**2
    gram[..., 0, 1] = gram[..., 1, 0] = weighted_sizes @ tokens.T
    gram[..., 0, 2] = gram[..., 2, 0] = (weighted_sizes @ floor)[:, None]
    gram[..., 1, 2] = gram[..., 2, 1] = weighted_tokens @ floor
    right = np.empty((*shape, 3))
    right[..., 0], right[..., 1], right[..., 2] = weighted_sizes.sum(1)[:, None], weighted_tokens.sum(1), weight @ floor
    return _nonnegative_least_squares(gram, right, float(weight.sum()))


def _nonnegative_least_squares(
    gram: Float[np.ndarray, "*I K K"], right: Float[np.ndarray, "*I K"], total: float
) -> tuple[Float[np.ndarray, "*I"], Float[np.ndarray, "*I K"]]:
    """Try each set of unknowns that may be above 0: the best set without a negative one is the solution."""
    count = right.shape[-1]
    best = np.full(right.shape[:-1], total)
    solution = np.zeros_like(right)
    for size in range(1, count + 1):
        for chosen in map(list, combinations(range(count), size)):
            part = gram[..., chosen, :][..., chosen]
            part = part + 1e-14 * np.trace(part, axis1=-2, axis2=-1)[..., None, None] * np.eye(size)
            found = np.linalg.solve(part, right[..., chosen, None])[..., 0]
            error = total - (found * right[..., chosen]).sum(-1)
            better = (found >= 0).all(-1) & (error < best)
            best = np.where(better, error, best)
            trial = np.zeros_like(right)
            trial[..., chosen] = found
            solution = np.where(better[..., None], trial, solution)
    return best, solution


def _local_minima(error: Float[np.ndarray, "I J"]) -> Bool[np.ndarray, "I J"]:
    """Return where no neighbour, of eight, is lower; of a flat stretch only what lies before the rest."""
    padded = np.pad(error, 1, constant_values=np.inf)
    rows, columns = error.shape
    lowest = np.ones_like(error, dtype=bool)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            neighbour = padded[1 + down : 1 + down + rows, 1 + right : 1 + right + columns]
            if (down, right) < (0, 0):
                lowest &= error < neighbour
            elif (down, right) > (0, 0):
                lowest &= error <= neighbour
    return lowest
