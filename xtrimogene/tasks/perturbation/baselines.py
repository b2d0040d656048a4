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
    sizes = np.array([len(parts_of(name)) for name in train.perturbation.tolist()])
    per_part = train.change.sum(axis=0) / sizes.sum()
    numbers = np.bincount(sizes)
    means = {size: train.change[sizes == size].mean(axis=0) for size in np.flatnonzero(numbers >= LEAST).tolist()}
    asked = [len(parts_of(name)) for name in names]
    return np.array([means.get(size, size * per_part) for size in asked])


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
