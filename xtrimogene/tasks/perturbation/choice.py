"""Choose kernel and strength on effects held out inside the training part, and say what they are worth there.

Letters: F held-out effects; M genes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import t

from xtrimogene.evaluation.splits import Split
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.linear import DENOISES, STRENGTHS, Kernel, KernelRidge
from xtrimogene.tasks.perturbation.part_features import PartFeatures

SURE = 0.95  # as sure as an interval that excludes 0 from below


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A kernel, strength and denoising, and their error on held-out effects beside that of the training mean."""

    kernel: Kernel
    strength: float
    denoise: float
    error: float
    error_of_mean: float
    num_held_out: int


def choose(
    train: Effects, features: PartFeatures, kernels: Sequence[Kernel], splits: Sequence[Split], *, sure: float = SURE
) -> Choice:
    """Take the least error over the folds, if the gain over the training mean is sure by a one-sided t test."""
    errors = np.concatenate([_errors(train, features, kernels, split) for split in splits], axis=-1)  # (K, S, D, F)
    of_mean = errors[0, -1, 0]  # infinitely strong and as it is, whatever the kernel
    best = np.unravel_index(int(errors.mean(axis=-1).argmin()), errors.shape[:-1])
    gain = of_mean - errors[best]
    least = t.ppf(sure, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
    number, place, level = (int(one) for one in best) if gain.mean() > least else (0, len(STRENGTHS) - 1, 0)
    return Choice(
        kernel=kernels[number],
        strength=STRENGTHS[place],
        denoise=DENOISES[level],
        error=float(errors[number, place, level].mean()),
        error_of_mean=float(of_mean.mean()),
        num_held_out=len(of_mean),
    )


def _errors(
    train: Effects, features: PartFeatures, kernels: Sequence[Kernel], split: Split
) -> Float[np.ndarray, "K S D F"]:
    known, _ = train.rows(split.train).apart()
    asked, truth = train.rows(split.test).apart()
    names, control = asked.perturbation.tolist(), asked.control[asked.context]
    return np.array(
        [
            [
                [
                    ((np.maximum(change, -control) - truth) ** 2).mean(axis=1)
                    for change in ridge.predict_all(names, control, DENOISES)
                ]
                for ridge in KernelRidge.path(known, features, kernel, STRENGTHS)
            ]
            for kernel in kernels
        ]
    )
