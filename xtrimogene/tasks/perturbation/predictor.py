"""A predictor of effects: for each thing that may be asked, what served it best when such things were held out.

"perturbation": a part that was never perturbed. "combination": parts that were, not together. "context": a perturbation
that was, elsewhere. Where nothing could be held out to choose by, what was measured is taken as it is: the mean of the
perturbation's own effects, or the sum of its parts'.
Letters: Q effects asked for; M genes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from xtrimogene.evaluation.splits import Split
from xtrimogene.tasks.perturbation.baselines import additive, own_mean
from xtrimogene.tasks.perturbation.choice import Choice, choose
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.graph_network import GraphConfig, GraphInputs, GraphPredictor
from xtrimogene.tasks.perturbation.linear import KernelRidge, candidate_kernels
from xtrimogene.tasks.perturbation.names import JOIN, all_parts, parts_of
from xtrimogene.tasks.perturbation.part_features import PartFeatures
from xtrimogene.tasks.perturbation.splits import unseen_contexts, unseen_pairs, unseen_perturbations

Asked = Literal["perturbation", "combination", "context"]
Method = Literal["linear", "graph"]
Fitted = KernelRidge | GraphPredictor  # what answers one kind of question
LEAST_PARTS, NUM_FOLDS = 5, 10


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predictor:
    """Effects learned from, and what answers each kind of question."""

    train: Effects
    fitted: Mapping[Asked, Fitted]

    def predict(self, names: Sequence[str], control: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q M"]:
        """Return the change by each perturbation in a context of this mean control expression.

        No gene falls below no expression at all.
        """
        kinds = what_is_asked(self.train, names)
        found = np.empty_like(control, dtype=np.float64)
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
        if kind in self.fitted:
            return self.fitted[kind].predict(names, control)
        return additive(self.train, names) if kind == "combination" else own_mean(self.train, names)

    def _add_parts(self, names: Sequence[str], control: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q M"]:
        """Return the sum of what is predicted of the parts: all that can be said where no combination was measured."""
        parts = [parts_of(name) for name in names]
        row = np.repeat(np.arange(len(names)), [len(one) for one in parts])
        each = self.predict([part for one in parts for part in one], control[row])
        return np.add.reduceat(each, np.searchsorted(row, np.arange(len(names))), axis=0)


def choose_linear(
    train: Effects, features: PartFeatures, splits: Mapping[Asked, Sequence[Split]]
) -> dict[Asked, Choice]:
    """Choose a kernel and its strength for each thing that is held out of the training effects."""
    return {
        asked: choose(
            train,
            features,
            candidate_kernels(
                tuple(features.sources),
                many_contexts=len(train.context_names) > 1,
                combinations=any(JOIN in name for name in train.perturbation.tolist()),
                seen=asked != "perturbation",
            ),
            folds,
        )
        for asked, folds in splits.items()
    }


def linear_predictor(train: Effects, features: PartFeatures, choices: Mapping[Asked, Choice]) -> Predictor:
    fitted = {
        asked: KernelRidge.fit(train, features, choice.kernel, choice.strength, choice.denoise)
        for asked, choice in choices.items()
    }
    return Predictor(train=train, fitted=fitted)


def fit_graph(
    train: Effects, inputs: GraphInputs, splits: Mapping[Asked, Sequence[Split]], config: GraphConfig, *, seed: int = 0
) -> dict[Asked, GraphPredictor]:
    """Train a network for each thing that is held out of the training effects."""
    return {asked: GraphPredictor.fit(train, inputs, folds, config, seed=seed) for asked, folds in splits.items()}


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
    if len(np.unique(train.context)) > 1:  # a context may have control cells only
        splits["context"] = unseen_contexts(train)
    return splits
