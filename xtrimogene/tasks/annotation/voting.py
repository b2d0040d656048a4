"""Neighbouring cells of a query decide together: single cells are noisy, and most neighbours are of one type.

Letters: B cells; P width of the embedding; L labels.
"""

import numpy as np
from jaxtyping import Float, Int
from sklearn.neighbors import NearestNeighbors

NUM_NEIGHBORS = 15


def vote(embedding: Float[np.ndarray, "B P"], probabilities: Float[np.ndarray, "B L"]) -> Int[np.ndarray, " B"]:
    """Return the label of the largest mean probability of a cell and its 15 nearest; -1 where there is no embedding.

    All pairs of cells are compared: minutes for 100,000, and four times as long for twice as many.
    """
    known = np.isfinite(embedding).all(axis=1)
    voted = np.full(len(embedding), -1)
    if known.any():
        number = min(NUM_NEIGHBORS + 1, int(known.sum()))
        nearest = NearestNeighbors(n_neighbors=number).fit(embedding[known])
        voters = nearest.kneighbors(embedding[known], return_distance=False)  # (b, 16), the cell among them
        own, together = probabilities[known], np.zeros((int(known.sum()), probabilities.shape[1]))
        for place in range(number):
            together += own[voters[:, place]]
        voted[known] = together.argmax(axis=1)
    return voted
