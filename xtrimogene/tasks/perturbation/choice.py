"""Choose kernel and strength on effects held out inside the training part, and say what they are worth there.

Letters: F held-out effects; M genes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from xtrimogene.evaluation.splits import Split
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.linear import STRENGTHS, Kernel, KernelRidge
from xtrimogene.tasks.perturbation.part_features import PartFeatures


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A kernel and strength, and their mean squared error on held-out effects beside that of the training mean."""

    kernel: Kernel
    strength: float
    error: float
    error_of_mean: float
    num_held_out: int


def choose(train: Effects, features: PartFeatures, kernels: Sequence[Kernel], splits: Sequence[Split]) -> Choice:
    """Take the least error over the folds, if the gain over the training mean is more than its own standard error."""
    errors = np.concatenate([_errors(train, features, kernels, split) for split in splits], axis=-1)  # (K, S, F)
    of_mean = errors[0, -1]  # infinitely strong, whatever the kernel
    number, place = divmod(int(errors.mean(axis=-1).argmin()), len(STRENGTHS))
    gain = of_mean - errors[number, place]
    sure = gain.mean() > gain.std() / np.sqrt(max(len(gain) - 1, 1))
    kernel, strength = (kernels[number], STRENGTHS[place]) if sure else (kernels[0], np.inf)
    return Choice(
        kernel=kernel,
        strength=float(strength),
        error=float(errors[number, place].mean() if sure else of_mean.mean()),
        error_of_mean=float(of_mean.mean()),
        num_held_out=len(of_mean),
    )


def _errors(
    train: Effects, features: PartFeatures, kernels: Sequence[Kernel], split: Split
) -> Float[np.ndarray, "K S F"]:
    known, _ = train.rows(split.train).apart()
    asked, truth = train.rows(split.test).apart()
    names, control = asked.perturbation.tolist(), asked.control[asked.context]
    return np.array(
        [
            [
                ((ridge.predict(names, control) - truth) ** 2).mean(axis=1)
                for ridge in KernelRidge.path(known, features, kernel, STRENGTHS)
            ]
            for kernel in kernels
        ]
    )
