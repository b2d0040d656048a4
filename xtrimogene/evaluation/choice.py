"""Hyper-parameters chosen on inner folds of the cells that are learned from, and nowhere else.

Letters: A cells to learn from; B cells asked for; P width of the features.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Shaped
from scipy.sparse import csr_matrix

from xtrimogene.evaluation.baselines import logistic_regression
from xtrimogene.evaluation.classifiers import Scaling, classify
from xtrimogene.evaluation.comparison import Method
from xtrimogene.evaluation.metrics import macro_f1
from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.trials import Answer, Lesson

Features = Float[np.ndarray, "_ P"]
Predict = Callable[[Split, float], Shaped[np.ndarray, " n"]]


def choose_strength(
    labels: Shaped[np.ndarray, " A"], inner: Sequence[Split], strengths: Sequence[float], predict: Predict
) -> tuple[float, dict[float, float]]:
    """Return the C with the best mean macro-F1 over the inner folds, the smallest among equals, and the means.

    Parameters
    ----------
    predict
        Learns from the training rows of a fold with a C and labels its test rows.
    """
    if len(strengths) == 1:
        return strengths[0], {}
    means = {
        strength: float(np.mean([macro_f1(labels[fold.test], predict(fold, strength)) for fold in inner]))
        for strength in sorted(strengths)
    }
    return max(means, key=lambda strength: means[strength]), means


def read_features(
    name: str, cells: Features, asked: Features, lesson: Lesson, strengths: Sequence[float], *, scaling: Scaling
) -> dict[Method, Answer]:
    """Read labels off features by logistic regression with a chosen C, and by the 15 nearest cells.

    Features that were learned without labels are not learned again in each inner fold.
    """

    def predict(fold: Split, strength: float) -> Shaped[np.ndarray, " n"]:
        return classify(
            cells[fold.train], lesson.labels[fold.train], cells[fold.test], scaling=scaling, strength=strength
        )

    strength, means = choose_strength(lesson.labels, lesson.inner, strengths, predict)
    linear = classify(cells, lesson.labels, asked, scaling=scaling, strength=strength)
    return {
        Method(features=name, classifier="linear"): Answer(labels=linear, chosen=_chosen(strength, means)),
        Method(features=name, classifier="knn"): Answer(
            labels=classify(cells, lesson.labels, asked, classifier="knn", scaling=scaling)
        ),
    }


def read_all_genes(method: Method, lesson: Lesson, strengths: Sequence[float]) -> dict[Method, Answer]:
    """Read labels off all genes by logistic regression with a chosen C."""

    def predict(fold: Split, strength: float) -> Shaped[np.ndarray, " n"]:
        counts: csr_matrix = lesson.counts
        return logistic_regression(counts[fold.train], lesson.labels[fold.train], counts[fold.test], strength=strength)

    strength, means = choose_strength(lesson.labels, lesson.inner, strengths, predict)
    labels = logistic_regression(lesson.counts, lesson.labels, lesson.asked, strength=strength)
    return {method: Answer(labels=labels, chosen=_chosen(strength, means))}


def _chosen(strength: float, means: dict[float, float]) -> dict[str, object]:
    return {"setting": "C", "value": strength, "macro_f1": {f"{one:g}": mean for one, mean in means.items()}}
