"""Labels read off an embedding: logistic regression or nearest neighbours, with the same settings for every one."""

from typing import Literal, assert_never

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from xtrimogene.errors import ConfigError

Classifier = Literal["linear", "knn"]
CLASSIFIERS: tuple[Classifier, ...] = ("linear", "knn")
NO_LABEL = ""
# Mean macro-F1 of PCA on the validation sets at 0.01, 0.1 and 1: .762, .756, .747; without weights .609, .713, .730.
C = 0.01


def classify(
    train_embedding: Float[np.ndarray, "A P"],
    train_labels: Shaped[np.ndarray, " A"],
    test_embedding: Float[np.ndarray, "B P"],
    *,
    classifier: Classifier = "linear",
) -> Shaped[np.ndarray, " B"]:
    """Predict the label of each test cell.

    "linear": multinomial logistic regression (L2, C = 0.01, labels weighted to equal total weight) on the embedding
    standardised with the mean and deviation of the training cells. "knn": the 15 nearest training cells vote,
    Euclidean on the embedding as given. A training cell without an embedding (a NaN row) is not used; a test cell
    without one gets no label (""), which counts as wrong.
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
            scaler = StandardScaler().fit(train_embedding)
            model = LogisticRegression(C=C, class_weight="balanced", max_iter=1000).fit(
                scaler.transform(train_embedding), train_labels
            )
            predicted[known] = model.predict(scaler.transform(test_embedding[known]))
        case "knn":
            neighbors = KNeighborsClassifier(min(15, len(train_labels))).fit(train_embedding, train_labels)
            predicted[known] = neighbors.predict(test_embedding[known])
        case _:
            assert_never(classifier)
    return predicted
