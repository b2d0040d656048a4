"""What can be read off vectors by a linear model: numbers by ridge regression, labels by logistic regression.

Beside a model's vectors stand simple features: the letters at each place of variants of one length (one-hot), the
shares of the amino acids, the neighbours of a residue.
Letters: A vectors to learn from; B vectors asked for; P width; S proteins; r residues; L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Shaped
from sklearn.linear_model import LogisticRegression, RidgeCV

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.classifiers import variance_of
from xtrimogene.evaluation.metrics import accuracy
from xtrimogene.protein.tokenizer import LETTERS

STRENGTHS = tuple(10.0**power for power in range(-3, 6))  # of the ridge, for dimensions of variance 1
WEIGHTS = (0.001, 0.01, 0.1, 1.0)  # C of logistic regression
NEIGHBORS = 7  # residues to either side


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What was predicted, and the strength that was chosen."""

    values: Shaped[np.ndarray, " B"]
    strength: float


def regress(
    train: Float[np.ndarray, "A P"],
    targets: Float64[np.ndarray, " A"],
    test: Float[np.ndarray, "B P"],
    *,
    strengths: Sequence[float] = STRENGTHS,
) -> Prediction:
    """Predict numbers by ridge regression.

    The strength is that of the smallest squared error when each training vector in turn is left out. Dimensions are
    centred, and divided by the root of their mean variance.
    """
    train, test = _scale(train, test)
    model = RidgeCV(strengths).fit(train, targets)
    return Prediction(np.asarray(model.predict(test)), float(model.alpha_))


def classify_residues(
    train: Float[np.ndarray, "A P"],
    labels: Shaped[np.ndarray, " A"],
    validation: Bool[np.ndarray, " A"],
    test: Float[np.ndarray, "B P"],
    *,
    strengths: Sequence[float] = WEIGHTS,
) -> Prediction:
    """Predict labels by multinomial logistic regression.

    C is that of the best accuracy on the ``validation`` part of what is learned from, which should be whole proteins;
    all of it is then learned from.
    """
    if validation.all() or not validation.any():
        raise ConfigError("the training residues need a part to choose C on, and a part to learn from.")
    train, test = _scale(train, test)

    def predict(rows: Bool[np.ndarray, " A"], asked: Float[np.ndarray, "_ P"], strength: float) -> np.ndarray:
        model = LogisticRegression(C=strength, max_iter=1000).fit(train[rows], labels[rows])
        return np.asarray(model.predict(asked))

    found = [accuracy(labels[validation], predict(~validation, train[validation], one)) for one in strengths]
    chosen = strengths[int(np.argmax(found))]
    return Prediction(predict(np.ones_like(validation), test, chosen), chosen)


def one_hot(sequences: Sequence[str]) -> Float[np.ndarray, "S P"]:
    """Return which letter stands at each place where the sequences differ.

    Raises
    ------
    ConfigError
        They are not of one length.
    """
    lengths = sorted({len(sequence) for sequence in sequences})
    if len(lengths) != 1:
        raise ConfigError(f"one-hot features need sequences of one length, not {lengths[0]} to {lengths[-1]}.")
    codes = np.stack([_codes(sequence) for sequence in sequences])
    varies = codes[:, (codes != codes[0]).any(axis=0)]
    hot = (varies[:, :, None] == np.arange(len(LETTERS))).reshape(len(sequences), -1)
    return hot[:, hot.any(axis=0)].astype(np.float32)


def composition(sequences: Sequence[str]) -> Float[np.ndarray, "S P"]:
    """Return the share of each letter."""
    counts = [np.bincount(_codes(sequence), minlength=len(LETTERS)) / len(sequence) for sequence in sequences]
    return np.stack(counts).astype(np.float32)


def neighbor_one_hot(sequence: str, num_neighbors: int = NEIGHBORS) -> Float[np.ndarray, "r P"]:
    """Return which letters stand at and around each residue; beyond an end there is none."""
    padded = np.pad(_codes(sequence), num_neighbors, constant_values=len(LETTERS))
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * num_neighbors + 1)  # (r, 2 k + 1)
    return (around[:, :, None] == np.arange(len(LETTERS))).reshape(len(sequence), -1).astype(np.float32)


def _codes(sequence: str) -> np.ndarray:
    return np.asarray([LETTERS.index(letter) for letter in sequence])


def _scale(
    train: Float[np.ndarray, "A P"], test: Float[np.ndarray, "B P"]
) -> tuple[Float[np.ndarray, "A P"], Float[np.ndarray, "B P"]]:
    variance = variance_of(train, "together")
    scale = np.sqrt(np.where(variance > 0, variance, 1.0))
    center = train.mean(axis=0, dtype=np.float64)
    return (train - center) / scale, (test - center) / scale
