"""A predictor of effects: for each thing that may be asked, the kernel and strength that served it best when held out.

"perturbation": a part that was never perturbed. "combination": parts that were, not together. "context": a perturbation
that was, elsewhere. Where nothing could be held out to choose by, what was measured is taken as it is: the mean of the
perturbation's own effects, or the sum of its parts'.
Letters: Q effects asked for; M genes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from xtrimogene.evaluation.splits import Split
from xtrimogene.tasks.perturbation.baselines import additive, own_mean
from xtrimogene.tasks.perturbation.choice import Choice, choose
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.linear import KernelRidge, candidate_kernels
from xtrimogene.tasks.perturbation.names import JOIN, all_parts, parts_of
from xtrimogene.tasks.perturbation.part_features import PartFeatures
from xtrimogene.tasks.perturbation.splits import unseen_contexts, unseen_pairs, unseen_perturbations

Asked = Literal["perturbation", "combination", "context"]
LEAST_PARTS, NUM_FOLDS = 5, 10


@dataclass(frozen=True, kw_only=True)
class LinearPredictor:
    """Effects learned from, what is known of their parts, and a choice for each thing asked."""

    train: Effects
    features: PartFeatures
    choices: Mapping[Asked, Choice]

    @classmethod
    def fit(cls, train: Effects, features: PartFeatures, *, seed: int = 0) -> "LinearPredictor":
        combinations = any(JOIN in name for name in train.perturbation.tolist())
        choices: dict[Asked, Choice] = {}
        for asked, splits in inner_splits(train, seed).items():
            kernels = candidate_kernels(
                tuple(features.sources),
                many_contexts=len(train.context_names) > 1,
                combinations=combinations,
                seen=asked != "perturbation",
            )
            choices[asked] = choose(train, features, kernels, splits)
        return cls(train=train, features=features, choices=choices)

    @cached_property
    def _fitted(self) -> dict[Asked, KernelRidge]:
        return {
            asked: KernelRidge.fit(self.train, self.features, choice.kernel, choice.strength)
            for asked, choice in self.choices.items()
        }

    def predict(self, names: Sequence[str], control: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q M"]:
        """Return the change by each perturbation in a context of this control expression.

        No gene falls below no expression at all.
        """
        kinds = what_is_asked(self.train, names)
        found = np.empty_like(control)
        for kind in np.unique(kinds).tolist():
            rows = np.flatnonzero(kinds == kind)
            found[rows] = self._predict(kind, [names[row] for row in rows.tolist()], control[rows])
        return np.maximum(found, -control)

    def _predict(
        self, kind: Asked, names: Sequence[str], control: Float[np.ndarray, "Q M"]
    ) -> Float[np.ndarray, "Q M"]:
        learned_combinations = any(JOIN in name for name in self.train.perturbation.tolist())
        if kind == "perturbation" and not learned_combinations and any(JOIN in name for name in names):
            return self._add_parts(names, control)
        if kind in self._fitted:
            return self._fitted[kind].predict(names, control)
        return additive(self.train, names) if kind == "combination" else own_mean(self.train, names)

    def _add_parts(self, names: Sequence[str], control: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q M"]:
        """Return the sum of what is predicted of the parts: all that can be said where no combination was measured."""
        parts = [parts_of(name) for name in names]
        row = np.repeat(np.arange(len(names)), [len(one) for one in parts])
        each = self.predict([part for one in parts for part in one], control[row])
        return np.add.reduceat(each, np.searchsorted(row, np.arange(len(names))), axis=0)


def what_is_asked(train: Effects, names: Sequence[str]) -> Shaped[np.ndarray, " Q"]:
    """Say of each perturbation asked for which `Asked` it is."""
    seen, parts = set(train.perturbation.tolist()), set(all_parts(train.perturbation.tolist()))

    def kind(name: str) -> Asked:
        if name in seen:
            return "context"
        return "combination" if parts.issuperset(parts_of(name)) else "perturbation"

    return np.array([kind(name) for name in names])


def inner_splits(train: Effects, seed: int) -> dict[Asked, tuple[Split, ...]]:
    """Return folds of the training effects for each thing that can be held out of them."""
    splits: dict[Asked, tuple[Split, ...]] = {}
    num_parts = len(all_parts(train.perturbation.tolist()))
    if num_parts >= LEAST_PARTS:
        splits["perturbation"] = unseen_perturbations(train, num_folds=min(num_parts, NUM_FOLDS), seed=seed)
    if pairs := unseen_pairs(train, seed=seed):
        splits["combination"] = pairs
    if len(train.context_names) > 1:
        splits["context"] = unseen_contexts(train)
    return splits
