"""What stands beside a predictor: no change, the training mean, and the parts of a combination added up.

Letters: E training effects; Q effects asked for; M genes.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.names import parts_of

LEAST = 3  # effects that have a mean of their own


def no_change(train: Effects, names: Sequence[str]) -> Float[np.ndarray, "Q M"]:
    return np.zeros((len(names), train.change.shape[1]))


def training_mean(train: Effects, names: Sequence[str]) -> Float[np.ndarray, "Q M"]:
    """Return the mean training effect of as many parts; with fewer than three such, as many times that of one part."""
    return mean_weights(train, names) @ train.change


def mean_weights(train: Effects, names: Sequence[str]) -> Float[np.ndarray, "Q E"]:
    """Return what each training effect weighs in the `training_mean`."""
    sizes, asked = (np.array([len(parts_of(name)) for name in many]) for many in (train.perturbation.tolist(), names))
    same = asked[:, None] == sizes
    number = same.sum(axis=1, keepdims=True)
    per_part = np.broadcast_to(asked[:, None] / sizes.sum(), same.shape)
    return np.where(number >= LEAST, same / np.maximum(number, 1), per_part)


def own_mean(train: Effects, names: Sequence[str]) -> Float[np.ndarray, "Q M"]:
    """Return the mean of the same perturbation in the training contexts; the training mean where there is none."""
    found = training_mean(train, names)
    for row, name in enumerate(names):
        same = train.perturbation == name
        if same.any():
            found[row] = train.change[same].mean(axis=0)
    return found


def additive(train: Effects, names: Sequence[str]) -> Float[np.ndarray, "Q M"]:
    """Return the sum of the parts' own effects, the training mean of one part for each that was not measured alone."""
    sums = []
    for name in names:
        parts = parts_of(name)
        sums.append(own_mean(train, parts).sum(axis=0))
    return np.array(sums)
