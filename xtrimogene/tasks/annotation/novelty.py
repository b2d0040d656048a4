"""How far a cell lies from the reference, as the share of reference cells that lie as far.

Letters: A reference cells; N of them, held out; B cells asked for; P width of the embedding.
"""

import numpy as np
from jaxtyping import Float
from sklearn.neighbors import NearestNeighbors

NUM_NEIGHBORS = 15


def distances(reference: Float[np.ndarray, "A P"], cells: Float[np.ndarray, "B P"]) -> Float[np.ndarray, " B"]:
    """Return each cell's mean distance to its nearest reference cells, 15 or all there are."""
    nearest = NearestNeighbors(n_neighbors=min(NUM_NEIGHBORS, len(reference))).fit(reference)
    return np.asarray(nearest.kneighbors(cells)[0].mean(axis=1))


def as_far(held_out: Float[np.ndarray, " N"], distance: Float[np.ndarray, " B"]) -> Float[np.ndarray, " B"]:
    """Return the share of held-out reference cells that lie at least as far, the cell itself counted with them.

    It is at most x for a share x of cells like those of the reference.
    """
    nearer = np.searchsorted(np.sort(held_out), distance, side="left")
    return (len(held_out) - nearer + 1) / (len(held_out) + 1)
