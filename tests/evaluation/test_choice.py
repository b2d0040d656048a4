"""C is chosen on inner folds, for ours and for the baselines alike."""

from dataclasses import replace

import numpy as np
import pytest

from xtrimogene.evaluation import choice
from xtrimogene.evaluation.choice import choose_strength, read_all_genes, read_features
from xtrimogene.evaluation.comparison import ALL_GENES, Method
from xtrimogene.evaluation.trials import Lesson

GRID = (0.001, 0.1, 10.0)


def test_the_best_on_inner_folds_is_chosen_and_the_smallest_among_equals(lesson: Lesson) -> None:
    asked: list[tuple[str, float]] = []

    def predict(fold, strength):
        asked.append((fold.name, strength))
        return lesson.labels[fold.test] if strength >= 0.1 else np.full(len(fold.test), "a")

    best, means = choose_strength(lesson.labels, lesson.inner, (10.0, 0.001, 0.1), predict)
    assert best == 0.1 and means[0.1] == means[10.0] == 1.0 and means[0.001] < 0.5
    assert len(asked) == 3 * len(lesson.inner)


def test_one_strength_needs_no_choice(lesson: Lesson) -> None:
    assert choose_strength(lesson.labels, lesson.inner, (0.3,), lambda fold, strength: 1 / 0) == (0.3, {})


def test_features_are_read_with_what_was_chosen(lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []
    whole = len(lesson.rows)

    def record(cells, labels, asked, *, classifier="linear", scaling, strength=-1.0):
        if len(cells) == whole:
            used.append(strength)
        return np.full(len(asked), "a" if strength < 1 else "b")

    monkeypatch.setattr(choice, "classify", record)
    labels = np.full(whole, "b")
    labels[::4] = "a"
    zeros = np.zeros((whole, 2))
    found = read_features("f", zeros, zeros[:5], replace(lesson, labels=labels), (0.5, 2.0), scaling="each")
    linear = found[Method(features="f", classifier="linear")]
    assert linear.chosen["value"] == 2.0 == used[0] and set(linear.labels) == {"b"}
    assert linear.chosen["macro_f1"]["2"] > linear.chosen["macro_f1"]["0.5"]


def test_all_genes_and_features_learn_real_labels(lesson: Lesson) -> None:
    truth = np.array(["a", "b", "c"])[np.arange(30) % 3]
    answer = read_all_genes(ALL_GENES, lesson, GRID)[ALL_GENES]
    assert (answer.labels == truth).mean() > 0.9 and answer.chosen["value"] in GRID
    assert set(answer.chosen["macro_f1"]) == {"0.001", "0.1", "10"}
