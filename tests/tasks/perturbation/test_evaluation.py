from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from xtrimogene.tasks.perturbation.baselines import no_change, own_mean, training_mean
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.evaluation import MEAN, REPEAT, Trial, ceiling, compare
from xtrimogene.tasks.perturbation.held_out import held_out_figures, verdict_sentence
from xtrimogene.tasks.perturbation.predictor import inner_splits
from xtrimogene.tasks.perturbation.splits import unseen_contexts, unseen_perturbations

NAMES = [f"g{number}" for number in range(10)]
METHODS = {
    MEAN: lambda train, names, _: training_mean(train, names),
    "no change": lambda train, names, _: no_change(train, names),
}


def test_what_knows_the_answer_beats_the_mean(make_effects: Callable[..., Effects]) -> None:
    effects = make_effects(NAMES)
    change = dict(zip(NAMES, effects.change, strict=True))
    methods = METHODS | {"oracle": lambda _, names, __: np.array([change[name] for name in names])}
    trials = [
        Trial(effects=effects, truth=effects.change, splits=unseen_perturbations(effects, seed=seed))
        for seed in range(3)
    ]
    told: list[tuple[int, str]] = []
    found = compare(trials, methods, each=lambda number, method, *_: told.append((number, method)))
    assert found.units == tuple(NAMES) and len(told) == 3 * 5 * 3
    assert found.difference("oracle", MEAN, "mse").verdict == "beats"
    assert found.difference("no change", "oracle", "pearson").verdict == "loses"
    assert found.difference(MEAN, MEAN, "mse").verdict == "ties"
    assert found.interval("oracle", "mse").mean == 0 and found.interval(MEAN, "centroid_pearson").mean == 0
    expected = ((effects.change[0] - effects.change[np.arange(10) != 0].mean(axis=0)) ** 2).mean()
    alone = compare(
        [Trial(effects=effects, truth=effects.change, splits=unseen_perturbations(effects, num_folds=10))], METHODS
    )
    assert alone.scores[MEAN]["mse"][0, 0] == pytest.approx(expected)


def test_units_may_be_contexts_and_a_lone_perturbation_has_no_centroids(make_effects: Callable[..., Effects]) -> None:
    effects = make_effects(["drug"] * 4, range(4))
    found = compare(
        [Trial(effects=effects, truth=effects.change, splits=unseen_contexts(effects))], METHODS, by="context"
    )
    assert found.units == tuple(f"context {number}" for number in range(4))
    assert "centroid_accuracy" not in found.as_dict()["scores"][MEAN]


def test_the_ceiling_scores_one_half_by_the_other(make_effects: Callable[..., Effects]) -> None:
    effects, other = make_effects(NAMES), make_effects(NAMES, seed=1)
    found = ceiling([Trial(effects=effects, truth=other.change, splits=unseen_perturbations(effects))])
    expected = ((effects.change - other.change) ** 2).mean(axis=1)
    np.testing.assert_allclose(found.scores[REPEAT]["mse"][0], expected)


def test_held_out_figures_say_what_the_predictor_is_worth(make_effects: Callable[..., Effects]) -> None:
    effects = make_effects(NAMES * 6, np.repeat(range(6), 10).tolist())
    change = dict(zip(NAMES, effects.change[:10], strict=True))
    figures = held_out_figures(
        effects, np.tile(effects.change[:10], (6, 1)), lambda _, names, __: np.array([change[name] for name in names])
    )
    assert set(figures) == {"perturbation", "context"}
    assert figures["perturbation"]["baseline"] == MEAN and figures["context"]["baseline"] == "mean elsewhere"
    assert figures["perturbation"]["verdict"] == "beats" and figures["perturbation"]["num_units"] == 10
    sentence = verdict_sentence("perturbation", figures["perturbation"])
    assert sentence.startswith("On 10 perturbations held out, it beats 'training mean': its mean squared error is 0 ")
    worst = held_out_figures(effects, effects.change, lambda _, names, there: there + 9)
    assert "loses to" in verdict_sentence("context", worst["context"])


def test_a_baseline_too_predicts_no_gene_below_no_expression(make_effects: Callable[..., Effects]) -> None:
    effects = make_effects(NAMES * 6, np.repeat(range(6), 10).tolist())
    effects = replace(effects, control=effects.control - 5, halves=effects.halves - 5)
    methods = {
        "as it is": lambda train, names, _: own_mean(train, names),
        "cut": lambda train, names, there: np.maximum(own_mean(train, names), -there),
    }
    found = compare([Trial(effects=effects, truth=effects.change, splits=unseen_contexts(effects))], methods)
    np.testing.assert_array_equal(found.scores["as it is"]["mse"], found.scores["cut"]["mse"])


def test_fewer_than_six_held_out_test_nothing(make_effects: Callable[..., Effects]) -> None:
    effects = make_effects(NAMES * 5, np.repeat(range(5), 10).tolist())
    figures = held_out_figures(effects, effects.change, lambda _, names, there: there + 9)
    assert figures["context"]["verdict"] == "not tested" and figures["perturbation"]["verdict"] == "loses"
    sentence = verdict_sentence("context", figures["context"])
    assert sentence.startswith("On 5 contexts held out, its mean squared error is ")
    assert sentence.endswith("whether it is better was not tested, which takes at least 6 of them.")


def test_what_a_fold_cannot_choose_as_all_effects_can_has_no_figure(make_effects: Callable[..., Effects]) -> None:
    effects = make_effects(NAMES * 2, [0] * 10 + [1] * 10)
    figures = held_out_figures(effects, effects.change, lambda train, names, _: own_mean(train, names))
    assert set(figures) == {"perturbation"}  # a fold of two contexts has one to learn from
    few = make_effects(NAMES[:5])
    assert not held_out_figures(few, few.change, lambda train, names, _: own_mean(train, names))


def test_a_context_of_control_cells_only_is_not_held_out(make_effects: Callable[..., Effects]) -> None:
    effects = make_effects(NAMES * 2, [0] * 10 + [1] * 10)
    alone = replace(effects, context=np.zeros(20, dtype=np.int64))
    assert "context" not in inner_splits(alone, 0) and "context" in inner_splits(effects, 0)
