"""Labels read off an embedding: logistic regression or nearest neighbours.

Letters: A training cells; B cells asked for; P width of the embedding; L labels, in the order of the alphabet.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from xtrimogene.errors import ConfigError

Classifier = Literal["linear", "knn"]
CLASSIFIERS: tuple[Classifier, ...] = ("linear", "knn")
Scaling = Literal["together", "each"]
C = 0.01
NUM_NEIGHBORS = 15
NO_LABEL = ""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LinearClassifier:
    """Multinomial logistic regression on dimensions that are centred and scaled."""

    labels: Shaped[np.ndarray, " L"]
    center: Float[np.ndarray, " P"]
    scale: Float[np.ndarray, " P"]
    weight: Float[np.ndarray, "L P"]
    bias: Float[np.ndarray, " L"]

    @classmethod
    def fit(
        cls,
        embedding: Float[np.ndarray, "A P"],
        labels: Shaped[np.ndarray, " A"],
        *,
        variance: Float[np.ndarray, " P"],
        strength: float = C,
    ) -> "LinearClassifier":
        """Fit with L2, C = ``strength``, labels weighted to equal total weight.

        Dimensions are centred on the training cells and divided by the root of ``variance``, where that is not 0.
        """
        center, scale = embedding.mean(axis=0, dtype=np.float64), np.sqrt(np.where(variance > 0, variance, 1.0))
        names = np.unique(labels)
        if len(names) == 1:
            return cls(labels=names, center=center, scale=scale, weight=np.zeros((1, len(center))), bias=np.zeros(1))
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
        model.fit((embedding - center) / scale, labels)
        weight, bias = model.coef_, model.intercept_
        if len(names) == 2:  # scikit-learn keeps the second label's alone
            weight, bias = np.vstack([np.zeros_like(weight), weight]), np.append(np.zeros_like(bias), bias)
        return cls(labels=names, center=center, scale=scale, weight=weight, bias=bias)

    def scores(self, embedding: Float[np.ndarray, "B P"]) -> Float[np.ndarray, "B L"]:
        """Return log probabilities but for a constant of each cell."""
        return ((embedding - self.center) / self.scale) @ self.weight.T + self.bias


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NeighborClassifier:
    """The nearest training cells vote, Euclidean on the embedding as given; among equals the first label wins."""

    labels: Shaped[np.ndarray, " L"]
    embedding: Float[np.ndarray, "A P"]
    label_of_cell: Int[np.ndarray, " A"]
    num_neighbors: int = NUM_NEIGHBORS

    @classmethod
    def fit(
        cls,
        embedding: Float[np.ndarray, "A P"],
        labels: Shaped[np.ndarray, " A"],
        *,
        names: Shaped[np.ndarray, " L"] | None = None,
    ) -> "NeighborClassifier":
        """Keep the cells; ``names`` are all labels there may be (default: those of these cells), in order."""
        names = np.unique(labels) if names is None else names
        return cls(labels=names, embedding=embedding, label_of_cell=np.searchsorted(names, labels))

    def scores(self, embedding: Float[np.ndarray, "B P"]) -> Float[np.ndarray, "B L"]:
        """Return the logarithm of each label's share of the votes, one vote more shared by all labels."""
        number, num_labels = min(self.num_neighbors, len(self.embedding)), len(self.labels)
        nearest = NearestNeighbors(n_neighbors=number).fit(self.embedding)
        voters = self.label_of_cell[nearest.kneighbors(embedding, return_distance=False)]  # (B, number)
        votes = np.zeros((len(embedding), num_labels))
        np.add.at(votes, (np.arange(len(embedding))[:, None], voters), 1)
        return np.log((votes + 1 / num_labels) / (number + 1))


def classify(
    train_embedding: Float[np.ndarray, "A P"],
    train_labels: Shaped[np.ndarray, " A"],
    test_embedding: Float[np.ndarray, "B P"],
    *,
    classifier: Classifier = "linear",
    scaling: Scaling = "together",
    strength: float = C,
) -> Shaped[np.ndarray, " B"]:
    """Predict the label of each test cell.

    "linear": `LinearClassifier`, C = ``strength``; scaled together a dimension counts for as much as it varies, which
    serves the models best on the validation sets; scaled each by itself, HVG + PCA (benchmarks/linear_head.py). "knn":
    `NeighborClassifier`, 15 neighbours.

    A training cell without an embedding (a NaN row) is not used; a test cell without one gets no label (""), which
    counts as wrong.
    """
    if train_labels.dtype.kind not in "UO":
        raise ConfigError(f"labels are {train_labels.dtype}; text is needed, such as labels.astype(str).")
    usable, known = np.isfinite(train_embedding).all(axis=1), np.isfinite(test_embedding).all(axis=1)
    train_embedding, train_labels = train_embedding[usable], train_labels[usable]
    if not len(train_labels):
        raise ConfigError("no training cell has an embedding; at least one is needed to learn labels from.")
    predicted = np.full(len(test_embedding), NO_LABEL, dtype=np.result_type(train_labels.dtype, "U1"))
    if not known.any():
        return predicted
    fitted: LinearClassifier | NeighborClassifier
    match classifier:
        case "linear":
            variance = variance_of(train_embedding, scaling)
            fitted = LinearClassifier.fit(train_embedding, train_labels, variance=variance, strength=strength)
        case "knn":
            fitted = NeighborClassifier.fit(train_embedding, train_labels)
        case _:
            assert_never(classifier)
    predicted[known] = fitted.labels[fitted.scores(test_embedding[known]).argmax(axis=1)]
    return predicted


def variance_of(embedding: Float[np.ndarray, "A P"], scaling: Scaling) -> Float[np.ndarray, " P"]:
    """Return each dimension's variance, or of all dimensions "together" their mean."""
    variance = embedding.var(axis=0, dtype=np.float64)
    return np.full_like(variance, variance.mean()) if scaling == "together" else variance
