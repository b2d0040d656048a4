"""What a predictor is worth, said by effects that are held out of it, beside the training mean.

Letters: M genes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from xtrimogene.tasks.perturbation.baselines import additive, no_change, own_mean, training_mean
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.evaluation import LEAST_UNITS, MEAN, Comparison, Predict, Trial, compare
from xtrimogene.tasks.perturbation.predictor import inner_splits
from xtrimogene.tasks.perturbation.splits import unseen_contexts, unseen_pairs, unseen_perturbations

OURS, SEEDS, NUM_FOLDS = "predictor", (0, 1, 2), 5
BASELINES: Mapping[str, str] = {"perturbation": MEAN, "combination": "additive", "context": "mean elsewhere"}
WORDS = {"beats": "beats", "ties": "does not beat", "loses": "loses to"}


def held_out_figures(effects: Effects, truth: Float[np.ndarray, "E M"], predict: Predict) -> dict[str, Any]:
    """Fit anew without each fold of what can be held out, and score what was left out of it.

    Parameters
    ----------
    effects, truth
        From `EffectSums.apart`.

    Returns
    -------
    For each `Asked` that can be held out, and of which as much is left in each fold that the predictor chooses there in
    the same way as with all effects (so two contexts are too few): the number of things tested, scores of the predictor
    and the baselines, and the difference of mean squared errors to the baseline to beat, its interval and the verdict,
    which with fewer than six things tested is "not tested". That baseline is the training mean for a perturbation, the
    sum of its parts for a combination, and for a context the mean of the same perturbation in the others.
    """
    figures: dict[str, Any] = {}
    methods: Mapping[str, Predict] = {
        OURS: predict,
        MEAN: lambda train, names, _: training_mean(train, names),
        "additive": lambda train, names, _: additive(train, names),
        "mean elsewhere": lambda train, names, _: own_mean(train, names),
        "no change": lambda train, names, _: no_change(train, names),
    }
    for asked, by in (("perturbation", "perturbation"), ("combination", "perturbation"), ("context", "context")):
        trials = _trials(effects, truth, asked)
        if trials:
            result = compare(trials, methods, by=by)
            if len(result.units) > 1:
                figures[asked] = _figures(result, BASELINES[asked])
    return figures


def verdict_sentence(asked: str, figures: Mapping[str, Any]) -> str:
    """Say in one sentence whether the predictor is better than the baseline on what was held out."""
    mean, low, high = figures["difference"]
    baseline, scores = figures["baseline"], figures["scores"]
    ours, theirs = (scores[method]["mse"][0] for method in (OURS, baseline))
    errors = f"mean squared error is {ours:.4g} against {theirs:.4g}"
    if figures["verdict"] not in WORDS:
        return (
            f"On {figures['num_units']} {asked}s held out, its {errors} of {baseline!r}: whether it is better was not "
            f"tested, which takes at least {LEAST_UNITS} of them."
        )
    return (
        f"On {figures['num_units']} {asked}s held out, it {WORDS[figures['verdict']]} {baseline!r}: its {errors}, "
        f"a gain of {mean:.2g} [{low:.2g}, {high:.2g}]."
    )


def _trials(effects: Effects, truth: Float[np.ndarray, "E M"], asked: str) -> list[Trial]:
    if asked not in inner_splits(effects, 0):
        return []
    trials = []
    for seed in SEEDS:
        if asked == "perturbation":
            splits = unseen_perturbations(effects, num_folds=NUM_FOLDS, seed=seed)
        else:
            splits = unseen_pairs(effects, seed=seed) if asked == "combination" else unseen_contexts(effects)
        if any(asked not in inner_splits(effects.rows(split.train), seed) for split in splits):
            return []  # what was fitted there would be of another kind than what is saved
        trials.append(Trial(effects=effects, truth=truth, splits=splits))
    return trials


def _figures(result: Comparison, baseline: str) -> dict[str, Any]:
    difference = result.difference(OURS, baseline, "mse")
    return {
        "num_units": len(result.units),
        "baseline": baseline,
        "scores": result.as_dict()["scores"],
        "difference": [difference.mean, difference.low, difference.high],
        "verdict": result.verdict(difference),
    }
