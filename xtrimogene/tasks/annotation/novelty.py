"""How strange a cell is to a reference: its distance from the nearest label there, as the cells of that label scatter.

Letters: D reference cells; N of them, held out; B cells asked for; C principal axes; L labels.
Source of the distance: Lee et al., A simple unified framework for detecting out-of-distribution samples, 2018.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.covariance import LedoitWolf

OWN_CELLS = 20  # that outweigh what is expected of any label's scatter


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Novelty:
    """Labels' centres where the labels' common scatter is round, and each one's squared distance to its own cells."""

    whiten: Float[np.ndarray, "C C"]
    centers: Float[np.ndarray, "L C"]
    spread: Float[np.ndarray, " L"]

    @classmethod
    def fit(cls, components: Float[np.ndarray, "D C"], labels: Shaped[np.ndarray, " D"]) -> "Novelty":
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

    def strangeness(self, components: Float[np.ndarray, "B C"]) -> Float[np.ndarray, " B"]:
        """Return the squared distance to the nearest label, in units of what is usual of its own cells."""
        placed = components @ self.whiten
        return np.stack(
            [
                ((placed - center) ** 2).sum(axis=1) / spread
                for center, spread in zip(self.centers, self.spread, strict=True)
            ]
        ).min(axis=0)


def as_strange(held_out: Float[np.ndarray, " N"], strangeness: Float[np.ndarray, " B"]) -> Float[np.ndarray, " B"]:
    """Return the share of held-out reference cells that are at least as strange, the cell itself counted with them.

    It is at most x for a share x of cells like those of the reference.
    """
    less = np.searchsorted(np.sort(held_out), strangeness, side="left")
    return (len(held_out) - less + 1) / (len(held_out) + 1)
