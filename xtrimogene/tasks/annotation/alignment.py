"""By what a query lies beside its reference: what the cells of most labels are displaced by is no matter of type.

Letters: A reference cells; B cells asked for; P width of a space; L labels; K of them, counted.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped

LEAST_CELLS, LEAST_LABELS = 10, 3
NUM_ROUNDS = 5
MOST_DISAGREEMENT = 0.3


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
    """Return the median over labels of their cells' mean displacement from the reference's, less what is noise.

    Labels of fewer than ten cells do not count, and among fewer than three labels nothing is common. Noise is what
    means of so few cells differ by: the shift is shortened by its share of the squared length (James and Stein, 1961).
    """
    counted = counted_labels(label, len(centers))
    if not counted:
        return np.zeros(cells.shape[1])
    own, noise = _displacements(cells, label, centers, counted)
    shift = np.median(own, axis=0)
    expected = np.pi / 2 * noise.mean() / len(own)  # a median varies pi / 2 times as much as a mean
    return np.asarray(shift * max(1 - expected / max(shift @ shift, 1e-12), 0))


def disagreement(
    cells: Float[np.ndarray, "B P"], label: Int[np.ndarray, " B"], centers: Float[np.ndarray, "L P"]
) -> float:
    """Return how much labels' displacements differ, of how much their centres do; 1 where nothing is common.

    Labels that are all moved by one thing keep their distances: 0. Cells of one type that the reference lacks, called
    by several labels' names, lie in one place whatever the label: their displacements differ as the centres do: 1.
    """
    counted = counted_labels(label, len(centers))
    if not counted:
        return 1.0
    own, noise = _displacements(cells, label, centers, counted)
    apart = ((centers[counted] - centers[counted].mean(axis=0)) ** 2).sum()
    return float((((own - np.median(own, axis=0)) ** 2).sum() - noise.sum()) / max(apart, 1e-12))


def counted_labels(label: Int[np.ndarray, " B"], num_labels: int) -> list[int]:
    """Return the labels of ten cells or more, where there are three of them."""
    counted = np.flatnonzero(np.bincount(label, minlength=num_labels) >= LEAST_CELLS)
    return counted.tolist() if len(counted) >= LEAST_LABELS else []


def common_excess(
    distances: Float[np.ndarray, "B 2"], label: Int[np.ndarray, " B"], center: Float[np.ndarray, "2"], num_labels: int
) -> Float[np.ndarray, "2"]:
    """Return by what the cells of most labels lie farther, as where counts are noisier: the median of labels' medians.

    At least 0, and 0 where `common_shift` is.
    """
    own = [np.median(distances[label == one], axis=0) - center for one in counted_labels(label, num_labels)]
    return np.maximum(np.median(own, axis=0), 0) if own else np.zeros(distances.shape[1])


def _displacements(
    cells: Float[np.ndarray, "B P"],
    label: Int[np.ndarray, " B"],
    centers: Float[np.ndarray, "L P"],
    counted: list[int],
) -> tuple[Float[np.ndarray, "K P"], Float[np.ndarray, " K"]]:
    """Return each counted label's mean displacement, and the squared length that it has by chance."""
    own = [cells[label == one] for one in counted]
    return (
        np.stack([here.mean(axis=0) - centers[one] for here, one in zip(own, counted, strict=True)]),
        np.array([here.var(axis=0, ddof=1).sum() / len(here) for here in own]),
    )
