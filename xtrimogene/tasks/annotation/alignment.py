"""By what a query lies beside its reference: what the cells of most labels are displaced by is no matter of type.

Letters: A reference cells; B cells asked for; P width of a space; L labels.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped

LEAST_CELLS, LEAST_LABELS = 10, 3
NUM_ROUNDS = 3


def label_centers(
    cells: Float[np.ndarray, "A P"], labels: Shaped[np.ndarray, " A"], names: Shaped[np.ndarray, " L"]
) -> Float[np.ndarray, "L P"]:
    """Return the mean cell of each label, 0 for one that no cell has; ``names`` are in the order of the alphabet."""
    label = np.searchsorted(names, labels)
    sums = np.zeros((len(names), cells.shape[1]))
    np.add.at(sums, label, cells)
    return np.asarray(sums / np.maximum(np.bincount(label, minlength=len(names)), 1)[:, None])


def common_shift(
    cells: Float[np.ndarray, "B P"], label: Int[np.ndarray, " B"], centers: Float[np.ndarray, "L P"]
) -> Float[np.ndarray, " P"]:
    """Return the median over labels of their cells' mean displacement from the reference's.

    Labels of fewer than ten cells do not count. Among fewer than three labels nothing is common, and the shift is 0: a
    query of one type that the reference lacks is not to be moved onto one that it has.
    """
    counted = np.flatnonzero(np.bincount(label, minlength=len(centers)) >= LEAST_CELLS)
    own = [cells[label == one].mean(axis=0) - centers[one] for one in counted]
    if len(own) < LEAST_LABELS:
        return np.zeros(cells.shape[1])
    return np.asarray(np.median(own, axis=0))
