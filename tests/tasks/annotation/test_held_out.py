from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from xtrimogene.evaluation.baselines import logistic_regression
from xtrimogene.evaluation.metrics import macro_f1
from xtrimogene.evaluation.splits import folds_by_cell, folds_by_group
from xtrimogene.tasks.annotation.calibration import label_sets
from xtrimogene.tasks.annotation.held_out import HeldOutCells


def held_out(cells: Any, method: str = "linear") -> tuple[HeldOutCells, Any]:
    splits = folds_by_cell(cells.labels)
    options = {"read": cells.read, "counted": np.ones(len(cells.labels), dtype=bool), "splits": splits}
    return HeldOutCells.of(method, cells.embedding, cells.counts, cells.labels, **options), splits


def mixed(draw_kinds: Any, share: float, seed: int = 0) -> Any:
    """Some cells have the other's label, in embedding and counts alike: nothing can be sure of any."""
    cells = draw_kinds({"B cell": 300, "T cell": 200}, seed=seed)
    wrong = np.random.default_rng(seed).random(500) < share
    other = np.where(cells.labels == "B cell", "T cell", "B cell")
    return cells.named(np.where(wrong, other, cells.labels))


def test_a_fold_learns_from_the_others_alone(reference: Any) -> None:
    cells, splits = held_out(reference)
    for split in splits:
        learned = reference.rows(split.train).learn()
        seen, _ = learned.align(reference.rows(split.test).seen_by(learned))
        np.testing.assert_array_equal(cells.scores[split.test], learned.scores(seen))
        np.testing.assert_array_equal(cells.distances[split.test], learned.distances(seen))
        best = learned.by_expression.scores(seen.components).argmax(axis=1)
        np.testing.assert_array_equal(cells.by_expression[split.test], best)


def test_figures_are_those_of_a_fold_calibrated_by_the_others(draw_kinds: Any) -> None:
    """A cell's own fold has no part in its temperature, nor in its set."""
    cells, _ = held_out(mixed(draw_kinds, 0.15))
    figures = cells.figures()
    assert figures["calibration_error"] < 0.04 < 0.08 < figures["calibration_error_before"]
    assert figures["coverage"] == pytest.approx(0.9, abs=0.03)
    assert figures["unknown"] == pytest.approx(0.05, abs=0.02)
    in_sample = label_sets(np.stack([1 - cells.of_right_labels, cells.of_right_labels], 1), cells.of_right_labels, 0.1)
    assert in_sample[:, 1].mean() == pytest.approx(0.9, abs=0.005)


def test_groups_are_aligned_as_a_query_is(draw_kinds: Any) -> None:
    kinds = draw_kinds({"B cell": 120, "T cell": 120, "platelet": 120})
    donor = np.arange(360) % 3
    moved = kinds.at(kinds.embedding + np.array([[0.0, 0.0], [3.0, 2.0], [-3.0, -2.0]])[donor])
    options = {"read": moved.read, "counted": np.ones(360, dtype=bool)}
    options["splits"] = folds_by_group(donor.astype(str), moved.labels, grouping="donor")
    aligned, left = (
        HeldOutCells.of("ensemble", moved.embedding, moved.counts, moved.labels, align=align, **options)
        for align in (True, False)
    )
    assert np.median(aligned.distances[:, 0]) < np.median(left.distances[:, 0]) - 0.3
    seen = (moved.fit(groups=donor.astype(str), align=align).strangeness.center for align in (True, False))
    assert [center[0] for center in seen] == [np.median(cells.distances[:, 0]) for cells in (aligned, left)]


def test_figures_say_where_a_fold_is_unlike_the_others(draw_kinds: Any) -> None:
    cells, _ = held_out(draw_kinds({"B cell": 300, "T cell": 200}))
    odd = cells.fold == 0
    scores = np.where(odd[:, None], -cells.scores, cells.scores)
    distances = np.where(odd[:, None], 99.0, cells.distances)
    altered = replace(cells, scores=scores, distances=distances).figures()
    assert altered["coverage"] < 0.85 and altered["calibration_error"] > 0.1 and altered["unknown"] > 0.15


def test_baselines_stand_beside_it_in_the_same_folds(draw_kinds: Any) -> None:
    kinds = mixed(draw_kinds, 0.15)
    cells, splits = held_out(kinds)
    figures = cells.beside_baselines(kinds.counts, kinds.read, splits)
    assert figures["macro_f1"] == macro_f1(kinds.labels, cells.names[cells.scores.argmax(axis=1)])
    assert figures["macro_f1_low"] < figures["macro_f1"] < figures["macro_f1_high"]
    given, names = cells.names[cells.scores.argmax(axis=1)], ["B cell", "T cell"]
    right = [np.mean(given[kinds.labels == name] == name) for name in names]
    assert figures["labels"] == names and figures["label_recall"] == pytest.approx(right)
    right = [np.mean(kinds.labels[given == name] == name) for name in names]
    assert figures["label_precision"] == pytest.approx(right)
    predicted = np.empty(500, dtype=object)
    for split in splits:
        part = kinds.counts[:, :40]
        predicted[split.test] = logistic_regression(part[split.train], kinds.labels[split.train], part[split.test])
    by_name = dict(zip(figures["baselines"], figures["baseline_macro_f1"], strict=True))
    assert by_name["all genes, linear"] == pytest.approx(macro_f1(kinds.labels, predicted.astype(str)))
    names = {"all genes, linear", "HVG + PCA, linear", "HVG + PCA, knn", "HVG + PCA aligned, linear"}
    assert set(by_name) == {*names, "most frequent label"}
    assert by_name["HVG + PCA aligned, linear"] == pytest.approx(macro_f1(cells.label, cells.by_expression))
    assert figures["baseline_macro_f1"] == sorted(figures["baseline_macro_f1"], reverse=True)
    for number, theirs in enumerate(figures["baseline_macro_f1"]):
        assert figures["difference"][number] == pytest.approx(figures["macro_f1"] - theirs)
        low, high = figures["difference_low"][number], figures["difference_high"][number]
        assert figures["verdict"][number] == ("beats" if low > 0 else "loses" if high < 0 else "ties")
    assert figures["verdict"][figures["baselines"].index("most frequent label")] == "beats"


def test_without_baselines_none_is_run(reference: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cells, splits = held_out(reference)
    monkeypatch.setattr("xtrimogene.tasks.annotation.held_out.predict_baselines", lambda *_: pytest.fail("run"))
    figures = cells.beside_baselines(reference.counts, reference.read, splits, baselines=False)
    of_labels = {"labels", "label_precision", "label_recall"}
    assert set(figures) == {"macro_f1", "macro_f1_low", "macro_f1_high", "accuracy", *of_labels}
    few = reference.rows(np.r_[0:15, 60:74])
    cells, splits = held_out(few)
    assert set(cells.beside_baselines(few.counts, few.read, splits)) == set(figures), "too few to judge by"
