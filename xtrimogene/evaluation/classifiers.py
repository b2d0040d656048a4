"""Labels read off an embedding: logistic regression or nearest neighbours."""

from typing import Literal, assert_never

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from xtrimogene.errors import ConfigError

Classifier = Literal["linear", "knn"]
CLASSIFIERS: tuple[Classifier, ...] = ("linear", "knn")
Scaling = Literal["together", "each"]
C = 0.01
NO_LABEL = ""


def classify(
    train_embedding: Float[np.ndarray, "A P"],
    train_labels: Shaped[np.ndarray, " A"],
    test_embedding: Float[np.ndarray, "B P"],
    *,
    classifier: Classifier = "linear",
    scaling: Scaling = "together",
) -> Shaped[np.ndarray, " B"]:
    """Predict the label of each test cell.

    "linear": multinomial logistic regression (L2, C = 0.01, labels weighted to equal total weight) on the embedding
    less the mean of the training cells. "together" divides it by one scale, the root mean square of their deviations,
    so that a dimension counts for as much as it varies; "each" divides a dimension by its own deviation. The first
    serves the models best on the validation sets, the second HVG + PCA (benchmarks/linear_head.py).

    "knn": the 15 nearest training cells vote, Euclidean on the embedding as given.

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
    if len(np.unique(train_labels)) == 1:
        predicted[known] = train_labels[0]
        return predicted
    match classifier:
        case "linear":
            variance = train_embedding.var(axis=0, dtype=np.float64)
            if scaling == "together":
                variance = np.full_like(variance, variance.mean())
            predicted[known] = logistic_labels(
                train_embedding, train_labels, test_embedding[known], variance=variance, strength=C
            )
        case "knn":
            neighbors = KNeighborsClassifier(min(15, len(train_labels))).fit(train_embedding, train_labels)
            predicted[known] = neighbors.predict(test_embedding[known])
        case _:
            assert_never(classifier)
    return predicted


def logistic_labels(
    train_embedding: Float[np.ndarray, "A P"],
    train_labels: Shaped[np.ndarray, " A"],
    test_embedding: Float[np.ndarray, "B P"],
    *,
    variance: Float[np.ndarray, " P"],
    strength: float,
) -> Shaped[np.ndarray, " B"]:
    """Logistic regression with C = ``strength`` on dimensions that are centred and divided by the root of ``variance``.

    The centre is that of the training cells; a dimension with variance 0 is left as it is.
    """
    center, scale = train_embedding.mean(axis=0, dtype=np.float64), np.sqrt(np.where(variance > 0, variance, 1.0))
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    model.fit((train_embedding - center) / scale, train_labels)
    return np.asarray(model.predict((test_embedding - center) / scale))
