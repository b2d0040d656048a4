"""How strange a cell is to a reference: how far it lies from it, in the embedding and in expression.

Letters: A reference cells; N of them, held out; B cells asked for; P width of the embedding; C principal axes of
expression; L labels.
Source of the second distance: Lee et al., A simple unified framework for detecting out-of-distribution samples, 2018.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.spatial import KDTree
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

NUM_NEIGHBORS = 15
OWN_CELLS = 20  # that outweigh what is expected of any label's scatter
LEAST_SCALE = 0.05  # of log distances
ROUNDING = 1e-4  # of a vector's length


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NeighborDistance:
    """The mean distance to the nearest reference cells in the embedding, 15 or all there are."""

    embedding: Float[np.ndarray, "A P"]

    @classmethod
    def fit(cls, embedding: Float[np.ndarray, "A P"]) -> "NeighborDistance":
        return cls(embedding=embedding)

    def of(self, embedding: Float[np.ndarray, "B P"]) -> Float[np.ndarray, " B"]:
        nearest = NearestNeighbors(n_neighbors=min(NUM_NEIGHBORS, len(self.embedding))).fit(self.embedding)
        return np.asarray(nearest.kneighbors(embedding)[0].mean(axis=1))

    def has(self, embedding: Float[np.ndarray, "B P"]) -> Bool[np.ndarray, " B"]:
        """Say which cells are of the reference itself: the same cell has the same vector, but for rounding."""
        rounding = ROUNDING * np.linalg.norm(embedding, axis=1)
        tree = KDTree(self.embedding, balanced_tree=False, compact_nodes=False)  # quick to build: a query may be a cell
        nearest, _ = tree.query(embedding, distance_upper_bound=np.nextafter(rounding.max(), np.inf))
        return np.asarray(nearest <= rounding)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelDistance:
    """Labels' centres where the labels' common scatter is round, and each one's squared distance to its own cells.

    ``usual``: half of the cells themselves lie nearer, and nearly all cells that the axes were not fitted to.
    """

    whiten: Float[np.ndarray, "C C"]
    centers: Float[np.ndarray, "L C"]
    spread: Float[np.ndarray, " L"]
    usual: Float[np.ndarray, "1"]

    @classmethod
    def fit(cls, components: Float[np.ndarray, "A C"], labels: Shaped[np.ndarray, " A"]) -> "LabelDistance":
        """Fit the shared covariance, shrunk as by Ledoit and Wolf, and each label's centre and median distance."""
        names, label = np.unique(labels, return_inverse=True)
        number = np.bincount(label)
        means = np.stack([components[label == one].mean(axis=0, dtype=np.float64) for one in range(len(names))])
        scatter = LedoitWolf(assume_centered=True).fit(components - means[label]).covariance_
        variance, axes = np.linalg.eigh(scatter)
        least = max(1e-6 * components.var(), 1e-12)  # labels of one cell each do not scatter
        whiten = axes / np.sqrt(np.maximum(variance, least))
        centers = means @ whiten
        own = ((components @ whiten - centers[label]) ** 2).sum(axis=1)
        median = np.array([np.median(own[label == one]) for one in range(len(names))])
        spread = (number * median + OWN_CELLS * components.shape[1]) / (number + OWN_CELLS)
        nearest = cls(whiten=whiten, centers=centers, spread=spread, usual=np.ones(1)).of(components)
        return cls(whiten=whiten, centers=centers, spread=spread, usual=np.quantile(nearest, [0.5]))

    def of(self, components: Float[np.ndarray, "B C"]) -> Float[np.ndarray, " B"]:
        """Return the squared distance to the nearest label, in units of what is usual of its own cells."""
        return self.of_labels(components).min(axis=1)

    def of_labels(self, components: Float[np.ndarray, "B C"]) -> Float[np.ndarray, "B L"]:
        """Return the squared distance to each label, in units of what is usual of its own cells."""
        placed = components @ self.whiten
        return np.stack(
            [
                ((placed - center) ** 2).sum(axis=1) / spread
                for center, spread in zip(self.centers, self.spread, strict=True)
            ],
            axis=1,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Strangeness:
    """Log distances, each in units of how much it varies among held-out reference cells, and added.

    ``center`` and ``scale`` are their medians and interquartile ranges there, ``held_out`` the sums.
    """

    center: Float[np.ndarray, "2"]
    scale: Float[np.ndarray, "2"]
    held_out: Float[np.ndarray, " N"]

    @classmethod
    def fit(cls, distances: Float[np.ndarray, "N 2"]) -> "Strangeness":
        low, center, high = np.quantile(distances, [0.25, 0.5, 0.75], axis=0)
        scale = np.maximum(high - low, LEAST_SCALE)
        return cls(center=center, scale=scale, held_out=((distances - center) / scale).sum(axis=1))

    def of(self, distances: Float[np.ndarray, "B 2"]) -> Float[np.ndarray, " B"]:
        return np.asarray(((distances - self.center) / self.scale).sum(axis=1))

    def share(self, distances: Float[np.ndarray, "B 2"]) -> Float[np.ndarray, " B"]:
        """Return the share of held-out reference cells that are at least as strange, the cell itself counted with them.

        It is at most x for a share x of cells like those of the reference.
        """
        less = np.searchsorted(np.sort(self.held_out), self.of(distances), side="left")
        return (len(self.held_out) - less + 1) / (len(self.held_out) + 1)
