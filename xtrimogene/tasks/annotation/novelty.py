"""How strange a cell is to a reference: its distance from the nearest label there, and how much it could be any.

Either makes a cell strange, as neither alone finds all types that a reference lacks (benchmarks/novelty.py).
Letters: D reference cells; N of them, held out; B cells asked for; C principal axes; L labels.
Sources: Lee et al., A simple unified framework for detecting out-of-distribution samples, 2018 (the distance);
Hendrycks and Gimpel, A baseline for detecting misclassified and out-of-distribution examples, 2017 (the doubt).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import softmax
from sklearn.covariance import LedoitWolf

OWN_CELLS = 20  # that outweigh what is expected of any label's scatter
SURE, NO_SPREAD = 1e-6, 1e-3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelDistance:
    """Labels' centres where the labels' common scatter is round, and each one's squared distance to its own cells."""

    whiten: Float[np.ndarray, "C C"]
    centers: Float[np.ndarray, "L C"]
    spread: Float[np.ndarray, " L"]

    @classmethod
    def fit(cls, components: Float[np.ndarray, "D C"], labels: Shaped[np.ndarray, " D"]) -> "LabelDistance":
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
        expected = components.shape[1]
        return cls(
            whiten=whiten, centers=centers, spread=(number * median + OWN_CELLS * expected) / (number + OWN_CELLS)
        )

    def of(self, components: Float[np.ndarray, "B C"]) -> Float[np.ndarray, " B"]:
        """Return the squared distance to the nearest label, in units of what is usual of its own cells."""
        placed = components @ self.whiten
        return np.stack(
            [
                ((placed - center) ** 2).sum(axis=1) / spread
                for center, spread in zip(self.centers, self.spread, strict=True)
            ]
        ).min(axis=0)


def doubt(scores: Float[np.ndarray, "B L"]) -> Float[np.ndarray, " B"]:
    """Return the log odds that the best label is not the right one, were the scores log probabilities."""
    best = np.clip(softmax(scores, axis=1).max(axis=1), SURE, 1 - SURE)
    return np.asarray(np.log((1 - best) / best))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Strangeness:
    """The larger of log distance and doubt, each in units of how much it varies among held-out reference cells.

    ``center`` and ``scale`` are their medians and interquartile ranges there, ``held_out`` the larger of both.
    """

    center: Float[np.ndarray, "2"]
    scale: Float[np.ndarray, "2"]
    held_out: Float[np.ndarray, " N"]

    @classmethod
    def fit(cls, distance: Float[np.ndarray, " N"], doubts: Float[np.ndarray, " N"]) -> "Strangeness":
        both = _both(distance, doubts)
        low, center, high = np.quantile(both, [0.25, 0.5, 0.75], axis=0)
        scale = np.maximum(high - low, NO_SPREAD)
        return cls(center=center, scale=scale, held_out=((both - center) / scale).max(axis=1))

    def of(self, distance: Float[np.ndarray, " B"], doubts: Float[np.ndarray, " B"]) -> Float[np.ndarray, " B"]:
        """Return the larger of both."""
        return np.asarray(((_both(distance, doubts) - self.center) / self.scale).max(axis=1))

    def share(self, distance: Float[np.ndarray, " B"], doubts: Float[np.ndarray, " B"]) -> Float[np.ndarray, " B"]:
        """Return the share of held-out reference cells that are at least as strange, the cell itself counted with them.

        It is at most x for a share x of cells like those of the reference.
        """
        less = np.searchsorted(np.sort(self.held_out), self.of(distance, doubts), side="left")
        return (len(self.held_out) - less + 1) / (len(self.held_out) + 1)


def _both(distance: Float[np.ndarray, " B"], doubts: Float[np.ndarray, " B"]) -> Float[np.ndarray, "B 2"]:
    return np.column_stack([np.log(distance + SURE), doubts])
