"""Neighbouring cells of a query decide together: single cells are noisy, and near ones mostly of one type.

With more neighbours, or a smaller say of the cell itself, rare types vanish (benchmarks/annotation.py).

Letters: B cells; P width of the embedding; L labels.
"""

import numpy as np
from jaxtyping import Float, Int
from sklearn.neighbors import NearestNeighbors

NUM_NEIGHBORS = 5


def vote(embedding: Float[np.ndarray, "B P"], probabilities: Float[np.ndarray, "B L"]) -> Int[np.ndarray, " B"]:
    """Return the label of the largest probability, half the cell's own and half the mean of its five nearest.

    -1 where there is no embedding. All pairs of cells are compared: minutes for 100,000, and four times as long for
    twice as many.
    """
    known = np.isfinite(embedding).all(axis=1)
    voted, own = np.full(len(embedding), -1), probabilities[known]
    number = min(NUM_NEIGHBORS, len(own) - 1)
    if number > 0:
        nearest = NearestNeighbors(n_neighbors=number).fit(embedding[known]).kneighbors(return_distance=False)
        own = own / 2
        for place in range(number):
            own += probabilities[known][nearest[:, place]] / (2 * number)
    voted[known] = own.argmax(axis=1)
    return voted
