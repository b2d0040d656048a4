"""What a prediction or an embedding is worth: macro-F1 first, then accuracy, clustering and batch mixing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from sklearn.cluster import KMeans
from sklearn.metrics import (
    adjusted_rand_score,
    f1_score,
    normalized_mutual_info_score,
    precision_recall_fscore_support,
    silhouette_score,
)
from sklearn.neighbors import NearestNeighbors

from xtrimogene.errors import ConfigError

Labels = Shaped[np.ndarray, " N"]
Embedding = Float[np.ndarray, "N P"]
NUM_BINS = 15  # of confidence, as in Guo et al.


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScore:
    """One row of the per-class table; ``num_cells`` counts true cells."""

    label: str
    num_cells: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterScores:
    """How k-means clusters agree with the labels (ari, nmi), and how far apart the labels lie (silhouette)."""

    ari: float
    nmi: float
    silhouette: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationBin:
    """One point of the calibration curve: cells of a confidence from low to high, and how many of them are right."""

    low: float
    high: float
    num_cells: int
    confidence: float
    right: float


def macro_f1(truth: Labels, predicted: Labels) -> float:
    """Return the plain mean of F1 over the labels present in the truth.

    A prediction of a label that no test cell has costs its true label a hit and adds no term of its own: the number
    of terms depends on the test cells only, so methods are compared over the same labels. A label that is never
    predicted has F1 = 0.
    """
    return float(f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0))


def accuracy(truth: Labels, predicted: Labels) -> float:
    """Share of cells whose label is predicted exactly."""
    return float(np.mean(truth == predicted))


def calibration_error(confidence: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"]) -> float:
    """Mean distance of confidence and accuracy over bins of confidence, weighted by their cells (ECE; Guo et al. 2017).

    0: of the cells labelled with a confidence of 80 %, 80 % are labelled right.
    """
    bins = calibration_bins(confidence, right)
    return sum(one.num_cells * abs(one.confidence - one.right) for one in bins) / len(confidence)


def calibration_bins(confidence: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"]) -> tuple[CalibrationBin, ...]:
    """Return the bins of equal width that hold a cell, from the least confidence to the largest."""
    place = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    return tuple(
        CalibrationBin(
            low=float(one / NUM_BINS),
            high=float((one + 1) / NUM_BINS),
            num_cells=int((place == one).sum()),
            confidence=float(confidence[place == one].mean()),
            right=float(right[place == one].mean()),
        )
        for one in np.unique(place)
    )


def per_class(truth: Labels, predicted: Labels) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of each label present in the truth, in the order of the labels."""
    labels = np.unique(truth)
    precision, recall, f1, num_cells = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)
    return tuple(
        ClassScore(label=str(label), num_cells=int(n), precision=float(p), recall=float(r), f1=float(f))
        for label, n, p, r, f in zip(labels, num_cells, precision, recall, f1, strict=True)
    )


def cluster_scores(embedding: Embedding, labels: Labels, *, seed: int = 0, num_restarts: int = 20) -> ClusterScores:
    """Cluster by k-means with as many clusters as labels, and compare with the labels.

    Cells without an embedding (a NaN row) are left out. Distances are Euclidean on the embedding as it is given.
    """
    known = np.isfinite(embedding).all(axis=1)
    embedding, labels = embedding[known], labels[known]
    num_labels = len(np.unique(labels))
    if not 1 < num_labels < len(labels):
        raise ConfigError(f"{len(labels)} cells have {num_labels} labels; clusters need two labels and more cells.")
    clusters = KMeans(num_labels, n_init=num_restarts, random_state=seed).fit_predict(embedding)
    return ClusterScores(
        ari=float(adjusted_rand_score(labels, clusters)),
        nmi=float(normalized_mutual_info_score(labels, clusters)),
        silhouette=float(silhouette_score(embedding, labels)),
    )


def mean_scores(scores: Sequence[ClusterScores]) -> ClusterScores:
    """Return the mean of each number, over seeds."""
    return ClusterScores(
        ari=float(np.mean([one.ari for one in scores])),
        nmi=float(np.mean([one.nmi for one in scores])),
        silhouette=float(np.mean([one.silhouette for one in scores])),
    )


def batch_mixing(embedding: Embedding, labels: Labels, batches: Labels, *, num_neighbors: int = 15) -> float:
    """How often a cell's neighbours of its own label come from another batch, compared with chance.

    For each cell: the share of its nearest neighbours (among cells of its label) that are of another batch, divided
    by the share of other-batch cells among all other cells of its label. Averaged over the cells of a label, then
    over labels. 0: batches lie apart; 1: on average what random batches give, whatever the sizes of the batches;
    above 1: cells seek the other batch. Labels seen in one batch only say nothing and are left out; NaN where none is
    left.
    """
    known = np.isfinite(embedding).all(axis=1)
    embedding, labels, batches = embedding[known], labels[known], batches[known]
    scores = []
    for label in np.unique(labels):
        points, batch = embedding[labels == label], batches[labels == label]
        if len(np.unique(batch)) < 2:
            continue
        k = min(num_neighbors, len(points) - 1)
        neighbors = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)  # not itself
        other = (batch[neighbors] != batch[:, None]).mean(axis=1)
        expected = (batch[None, :] != batch[:, None]).sum(axis=1) / (len(points) - 1)
        scores.append(np.mean(other / expected))
    return float(np.mean(scores)) if scores else float("nan")
