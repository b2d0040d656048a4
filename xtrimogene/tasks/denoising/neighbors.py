"""The molecules of the cells most like a cell, after MAGIC (van Dijk et al., 2018).

Cells lie (`places`) among some that are kept. A Gaussian kernel, as wide as the way to the k-th neighbour, gives each
kept cell's weight, and t steps of that walk mix in the neighbours of neighbours. A cell takes no first step to itself,
so a cell that is kept and one that is not are treated alike: what they have themselves is weighed elsewhere (`blend`).
Letters: B cells; R kept cells; C axes; M genes measured.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.sparse import csr_matrix, vstack
from sklearn.metrics import pairwise_distances

from xtrimogene.tasks.denoising.places import RootPca
from xtrimogene.tasks.denoising.smoothing import REACH, Smoothing

ROWS_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Neighbors:
    """Cells that are kept, and where they lie."""

    counts: csr_matrix
    axes: RootPca
    places: Float32[np.ndarray, "R C"]
    keys: Int64[np.ndarray, " R"]

    @classmethod
    def fit(cls, counts: csr_matrix, *, seed: int = 0) -> "Neighbors":
        """Keep cells: R x M integral counts, at least three."""
        axes = RootPca.fit(counts, seed=seed)
        return cls(counts=counts, axes=axes, places=axes.transform(counts), keys=_keys(counts))

    def step(self, counts: csr_matrix, num_neighbors: int) -> csr_matrix:
        """Return the weight of each kept cell in a step from each cell; B x R, rows add up to 1, or 0 if all are it."""
        starts = range(0, counts.shape[0], ROWS_AT_ONCE)
        rows = [self._weights(counts[start : start + ROWS_AT_ONCE], num_neighbors) for start in starts]
        return csr_matrix(vstack(rows, format="csr"))

    def reached(self, counts: csr_matrix, how: Smoothing, walk: csr_matrix) -> csr_matrix:
        """Return the weight of each kept cell after all steps, B x R; a row adds up to the cells that it stands for.

        Weights w that add up to 1 average as well as 1 / sum of w^2 cells would.

        Parameters
        ----------
        walk
            The step from each kept cell, R x R.
        """
        weights = self.step(counts, how.num_neighbors)
        for _ in range(how.num_steps - 1):
            weights = csr_matrix(weights @ walk)
        square = np.asarray(weights.multiply(weights).sum(axis=1), dtype=np.float64).ravel()
        number = np.divide(1, square, out=np.zeros_like(square), where=square > 0)
        return csr_matrix(weights.multiply(number[:, None]))

    def _weights(self, counts: csr_matrix, num_neighbors: int) -> csr_matrix:
        away = np.asarray(pairwise_distances(self.axes.transform(counts), self.places), dtype=np.float64)
        itself = _keys(counts)[:, None] == self.keys
        ordered = np.sort(np.where(itself, np.inf, away), axis=1)[:, : REACH * num_neighbors]
        last = len(self.keys) - 2  # one of them may be itself
        width = np.maximum(ordered[:, [min(num_neighbors - 1, last)]], 1e-9)
        near = ~itself & (away <= ordered[:, [min(REACH * num_neighbors - 1, last)]])
        weights = np.exp(-((away / width) ** 2)) * near
        return csr_matrix(weights / np.maximum(_total(weights), 1e-300))


def _total(weights: Float64[np.ndarray, "B R"]) -> Float64[np.ndarray, "B 1"]:
    return np.asarray(weights.sum(axis=1, keepdims=True))


def _keys(counts: csr_matrix) -> Int64[np.ndarray, " B"]:
    """Name each cell by its counts: so a cell knows itself among those kept."""
    ordered = counts.sorted_indices()
    ordered.eliminate_zeros()
    places, values = ordered.indices.astype(np.int64), ordered.data.astype(np.float32)
    rows = zip(ordered.indptr[:-1], ordered.indptr[1:], strict=True)
    return np.array([hash((places[a:b].tobytes(), values[a:b].tobytes())) for a, b in rows], dtype=np.int64)
