"""What stands beside a denoiser: the mean of neighbouring cells, after MAGIC (van Dijk et al., 2018).

Cells lie by HVG + PCA; a Gaussian kernel, as wide as the way to the k-th neighbour, gives each cell's weights, and t
steps of that walk mix in the neighbours of neighbours. Here k and t are chosen by molecular cross-validation.
Letters: B cells; G genes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy.sparse import csr_matrix
from sklearn.metrics import pairwise_distances

from xtrimogene.evaluation.baselines import HvgPca
from xtrimogene.tasks.denoising.molecules import log_loss, totals_of, with_some_mean

NEIGHBORS, STEPS = (5, 15, 30), (1, 2, 4)
REACH = 3  # so many times k neighbours have a weight


@dataclass(frozen=True, kw_only=True, slots=True)
class Smoothing:
    num_neighbors: int
    num_steps: int


def smooth(counts: csr_matrix, how: Smoothing, *, seed: int = 0) -> Float32[np.ndarray, "B G"]:
    """Return each gene's share of a cell's molecules, the mean over its neighbours and itself."""
    return _mix(_walk(_distances(counts, seed), how), counts)


def choose_smoothing(seen: csr_matrix, held_out: csr_matrix, *, seed: int = 0) -> Smoothing:
    """Return the number of neighbours and steps with which the molecules seen tell most of those held out."""
    distances = _distances(seen, seed)
    mean = np.asarray(seen.sum(axis=0) + held_out.sum(axis=0), dtype=np.float64).ravel()
    grid = [Smoothing(num_neighbors=k, num_steps=t) for k in NEIGHBORS for t in STEPS]
    losses = [
        np.nanmean(log_loss(held_out, with_some_mean(_mix(_walk(distances, how), seen), mean / mean.sum())))
        for how in grid
    ]
    return grid[int(np.argmin(losses))]


def _distances(counts: csr_matrix, seed: int) -> Float[np.ndarray, "B B"]:
    placed = HvgPca.fit(counts, num_components=30, seed=seed).transform(counts)
    return np.asarray(pairwise_distances(placed))


def _walk(distances: Float[np.ndarray, "B B"], how: Smoothing) -> Float[np.ndarray, "B B"]:
    last, k = len(distances) - 1, how.num_neighbors
    ordered = np.sort(distances, axis=1)  # itself first
    width, reach = ordered[:, [min(k, last)]], ordered[:, [min(REACH * k, last)]]
    weights = np.exp(-((distances / np.maximum(width, 1e-9)) ** 2)) * (distances <= reach)
    weights = weights + weights.T
    return np.linalg.matrix_power(weights / weights.sum(axis=1, keepdims=True), how.num_steps)


def _mix(walk: Float[np.ndarray, "B B"], counts: csr_matrix) -> Float32[np.ndarray, "B G"]:
    total = np.maximum(totals_of(counts), 1)
    shares = csr_matrix((counts.data / np.repeat(total, np.diff(counts.indptr)), counts.indices, counts.indptr),
                        shape=counts.shape)  # fmt: skip
    return np.asarray((shares.T @ walk.T).T, dtype=np.float32)
