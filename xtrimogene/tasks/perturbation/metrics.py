"""How near a predicted change is to the measured one.

The systematic effect (what any perturbation does, stress for one) makes every prediction of a mean look right on the
change itself; so each is also counted from the centroid of all perturbed training cells, as in Systema (Vinas Torne et
al., Nature Biotechnology 2025). Letters: E effects; M genes; N cells.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

NUM_TOP = 20
METRICS: Mapping[str, bool] = {  # and whether more is better
    "mse": False,
    "mse_top20": False,
    "pearson": True,
    "pearson_top20": True,
    "centroid_pearson": True,
    "centroid_accuracy": True,
    "direction": True,
}


def score_effects(
    predicted: Float[np.ndarray, "E M"],
    measured: Float[np.ndarray, "E M"],
    *,
    mean: Float[np.ndarray, "E M"] | Float[np.ndarray, "1 M"],
    variance: Float[np.ndarray, " M"],
    others: Float[np.ndarray, "F M"],
) -> dict[str, Float[np.ndarray, " E"]]:
    """Score each effect by itself.

    Parameters
    ----------
    mean
        The training mean: where the centroid of perturbed training cells lies, counted from the control.
    variance
        Of each gene within a group of cells: the top genes are those of the largest change for it, in the truth.
    others
        Measured changes of all perturbations in this context, these among them, for the centroid accuracy.

    Returns
    -------
    mse, mse_top20
        Mean squared error, over all genes and over the 20 that change most.
    pearson, pearson_top20
        Correlation of changes; 0 where a prediction is the same for all genes.
    centroid_pearson
        Correlation of what is left after the training mean is taken off both.
    centroid_accuracy
        Share of the other perturbations whose measured centroid is farther from the prediction than the true one.
    direction
        Share of the 20 genes whose sign is right; no change counts half.
    """
    scores: dict[str, list[float]] = {name: [] for name in METRICS}
    means = np.broadcast_to(mean, measured.shape)
    scores["centroid_accuracy"] = centroid_accuracy(predicted, measured, others).tolist()
    for ours, truth, center in zip(predicted, measured, means, strict=True):
        top = top_genes(truth, variance)
        error = (ours - truth) ** 2
        scores["mse"].append(float(error.mean()))
        scores["mse_top20"].append(float(error[top].mean()))
        scores["pearson"].append(correlation(ours, truth))
        scores["pearson_top20"].append(correlation(ours[top], truth[top]))
        scores["centroid_pearson"].append(correlation(ours - center, truth - center))
        signs = np.sign(ours[top]) * np.sign(truth[top])
        scores["direction"].append(float((0.5 + 0.5 * signs).mean()))
    return {name: np.array(values) for name, values in scores.items()}


def top_genes(
    change: Float[np.ndarray, " M"], variance: Float[np.ndarray, " M"], number: int = NUM_TOP
) -> Int[np.ndarray, " T"]:
    """Return the genes of the largest change in standard deviations; a gene that never varies is none of them."""
    scale = np.sqrt(variance)
    size = np.divide(np.abs(change), scale, out=np.zeros_like(scale), where=scale > 0)
    return np.argsort(-size, kind="stable")[:number]


def correlation(a: Float[np.ndarray, " M"], b: Float[np.ndarray, " M"]) -> float:
    """Pearson's; 0 where one side is constant but for rounding."""
    centered = a - a.mean(), b - b.mean()
    lengths = [float(np.linalg.norm(one)) for one in centered]
    rounding = [1e-9 * max(1.0, float(np.abs(one).max(initial=0))) for one in (a, b)]
    if lengths[0] <= rounding[0] or lengths[1] <= rounding[1]:
        return 0.0
    return float(centered[0] @ centered[1] / (lengths[0] * lengths[1]))


def centroid_accuracy(
    predicted: Float[np.ndarray, "E M"], truth: Float[np.ndarray, "E M"], others: Float[np.ndarray, "F M"]
) -> Float[np.ndarray, " E"]:
    """Share of the others that are farther from each prediction than its truth; the truth itself is not counted."""
    own = ((predicted - truth) ** 2).sum(axis=1, keepdims=True)
    rest = cdist(truth, others, "sqeuclidean") > 0  # (E, F)
    farther = rest & (cdist(predicted, others, "sqeuclidean") > own)
    number = rest.sum(axis=1)
    return np.divide(farther.sum(axis=1), number, out=np.full(len(truth), np.nan), where=number > 0)


def energy_distance(ours: Float[np.ndarray, "N M"], theirs: Float[np.ndarray, "K M"]) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| (Szekely and Rizzo 2013), pairs of different cells only; 0 is the same."""
    within = [cdist(cells, cells).sum() / (len(cells) * (len(cells) - 1)) for cells in (ours, theirs)]
    return float(2 * cdist(ours, theirs).mean() - sum(within))
