"""Probabilities that hold: a temperature, and sets of labels that miss the right one as seldom as asked.

Both are fitted on reference cells that the classifier had not seen.
Letters: N such cells; B cells asked for; L labels.
Sources: Guo et al., On calibration of modern neural networks, 2017; Sadinle, Lei and Wasserman, Least ambiguous
set-valued classifiers with bounded error levels, 2019.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

LARGEST_LOG_TEMPERATURE = math.log(100.0)


def fit_temperature(scores: Float[np.ndarray, "N L"], label: Int[np.ndarray, " N"]) -> float:
    """Return the divisor of the scores under which the right labels are most probable, between 0.01 and 100.

    One cell in N + 2 is taken to be wrong, as by Platt (1999): that all N are right makes nothing certain. A label
    that a cell's classifier did not know has the score -inf.
    """
    rows = np.arange(len(label))
    others = np.isfinite(scores)
    others[rows, label] = False
    share = others / np.maximum(others.sum(axis=1, keepdims=True), 1)  # of the doubt, to each other label
    doubt = 1 / (len(label) + 2)

    def loss(log_temperature: float) -> float:
        probable = log_softmax(scores / math.exp(log_temperature), axis=1)
        elsewhere = np.where(others, probable, 0.0) * share
        return -float((1 - doubt) * probable[rows, label].mean() + doubt * elsewhere.sum(axis=1).mean())

    bounds = (-LARGEST_LOG_TEMPERATURE, LARGEST_LOG_TEMPERATURE)
    return math.exp(float(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def label_sets(
    probabilities: Float[np.ndarray, "B L"], of_right_labels: Float[np.ndarray, " N"], error_rate: float
) -> Bool[np.ndarray, "B L"]:
    """Return the labels that are as probable as the right ones of held-out cells usually are, the best one always.

    Of cells like those held out, under a classifier as good, the share whose set misses the right label is at most
    ``error_rate`` in expectation.

    Parameters
    ----------
    of_right_labels
        The probability that each held-out cell's own label was given.
    """
    number = len(of_right_labels)
    allowed = math.floor(error_rate * (number + 1))  # of the held-out cells that may be missed
    if allowed < 1:
        return np.ones(probabilities.shape, dtype=bool)
    least = np.partition(of_right_labels, allowed - 1)[allowed - 1] * (1 - 1e-9)  # equal votes differ in the last bit
    return (probabilities >= least) | (probabilities == probabilities.max(axis=1, keepdims=True))
