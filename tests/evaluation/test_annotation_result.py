"""From answers to a verdict: which baseline is the best, by how much, and what stands in the report."""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from xtrimogene.evaluation.annotation_result import AnnotationResult, judge_trials, result_as_dict
from xtrimogene.evaluation.annotation_text import to_report, to_summary
from xtrimogene.evaluation.comparison import Method
from xtrimogene.evaluation.metrics import calibration_bins
from xtrimogene.evaluation.study import AnnotationStudy
from xtrimogene.evaluation.task_tables import table
from xtrimogene.evaluation.tasks import Task
from xtrimogene.evaluation.trials import Sureness, Trials

OURS, STRONG, WEAK = (Method(features=name, classifier=None) for name in ("annotate", "strong*", "weak"))
FIGURES = {name: f"{name}.png" for name in ("macro_f1", "confusion", "calibration")}


def wrong_in(truth: np.ndarray, number: int) -> np.ndarray:
    labels = truth.copy()
    labels[:number] = np.roll(np.array(["a", "b", "c"]), 1)[np.arange(number) % 3]
    return labels


@pytest.fixture
def make_result(make_task: Callable[..., Task]) -> Callable[..., AnnotationResult]:
    def build(ours: int, strong: int, **settings: object) -> AnnotationResult:
        task = make_task((0, 1, 2))
        truth = task.labels[task.tested]
        wrong = {OURS: ours, STRONG: strong, WEAK: 24}
        sureness = Sureness(
            confidence=np.linspace(0.5, 1, 30),
            possible=tuple(frozenset(["a", "b"]) for _ in truth),
            unknown=np.arange(30) < 3,
        )
        trials = Trials(
            predictions={method: (wrong_in(truth, number),) * 3 for method, number in wrong.items()},
            sureness={OURS: (sureness,) * 3},
            learned=(np.ones(30, dtype=bool),) * 3,
            chosen=({"method": "annotate", "seed": 0, "split": "study", "setting": "C", "value": 0.1, "macro_f1": {}},),
            inner_grouping=("donor",),
        )
        study = AnnotationStudy(
            **{"files": ("a.h5ad",), "label_key": "t", "output": "o", "group_key": "d", "outside": ()} | settings
        )
        facts = {
            "model": "demo", "sha256": "0" * 64, "splits": ["study"], "seeds": [0, 1, 2], "strengths": [0.1, 1.0],
            "genes": 1000, "epochs": None, "error_rate": 0.1, "tested_cells_seen_in_pretraining": 0,
            "versions": {"xtrimogene": "0"},
            "files": [{"file": "a.h5ad", "cells": 90, "cells_used": 90, "genes": 1000, "tested": True}],
        }  # fmt: skip
        return judge_trials(
            study, task, trials, ours=OURS, own=("annotate",), facts=facts, not_run={"scvi": "not asked for"}
        )

    return build


@pytest.mark.parametrize(("ours", "strong", "words"), [(0, 12, "beats"), (6, 6, "ties with"), (12, 0, "loses to")])
def test_the_verdict_is_about_the_best_baseline(
    make_result: Callable[..., AnnotationResult], ours: int, strong: int, words: str
) -> None:
    result = make_result(ours, strong)
    interval = result.difference.macro_f1
    assert result.best_baseline == STRONG
    assert interval.low <= interval.mean <= interval.high
    found = re.fullmatch(r"annotate (.+) strong\* by ([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\]", result.verdict)
    assert found is not None and found[1] == words
    mean, low, high = map(float, found.groups()[1:])
    assert low <= mean <= high and {"beats": low > 0, "ties with": low <= 0 <= high, "loses to": high < 0}[words]
    expected = result.score_of(OURS).macro_f1.mean - result.score_of(STRONG).macro_f1.mean
    assert mean == pytest.approx(expected, abs=6e-4), "ours minus theirs"
    report, summary = to_report(result, FIGURES), to_summary(result)
    written = result.verdict.replace("*", "\\*")
    assert report.endswith(f"## Verdict\n\n{written} in macro-F1.\n")
    assert re.sub(r"\s+", " ", summary).endswith(f"Verdict: {result.verdict} in macro-F1.")
    assert max(map(len, summary.splitlines())) <= 80 and max(map(len, report.splitlines())) <= 100


def test_the_numbers_are_of_the_tested_cells(make_result: Callable[..., AnnotationResult]) -> None:
    result = make_result(6, 6)
    told = json.loads(json.dumps(result_as_dict(result)))
    assert told["num_tested"] == 30 and sum(map(sum, told["confusion"]["cells"])) == 30
    wrong = sum(n for row, true in zip(told["confusion"]["cells"], told["confusion"]["true"], strict=True)
                for n, given in zip(row, told["confusion"]["given"], strict=True) if given != true)  # fmt: skip
    assert wrong == 6
    worth = told["worth"]["annotate"]
    assert (
        worth["coverage"] == pytest.approx(20 / 30)
        and worth["labels_possible"] == 2
        and worth["unknown"] == pytest.approx(0.1)
    )
    assert sum(one["num_cells"] for one in told["calibration"]) == 90, "all seeds together"
    assert told["scores"][0]["method"]["features"] == "annotate" and told["scores"][0]["accuracy"] == pytest.approx(0.8)
    assert told["not_run"] == {"scvi": "not asked for"} and told["chosen"][0]["value"] == 0.1


def test_a_bin_holds_what_is_told_and_what_is_right() -> None:
    bins = calibration_bins(np.array([0.35, 0.39, 1.0, 0.95]), np.array([True, False, True, True]))
    assert [(one.num_cells, one.right) for one in bins] == [(2, 0.5), (2, 1.0)]
    assert [one.confidence for one in bins] == pytest.approx([0.37, 0.975])
    assert [(one.low, one.high) for one in bins] == [(5 / 15, 6 / 15), (14 / 15, 1.0)]


def test_a_split_by_cell_is_labelled_so(make_result: Callable[..., AnnotationResult]) -> None:
    result = make_result(0, 6, split="cell")
    assert "Split by cell" not in to_report(result, FIGURES)
    by_cell = replace(result, scores=replace(result.scores, grouping="cell"))
    for text in (to_report(by_cell, FIGURES), to_summary(by_cell)):
        assert "Split by cell, as asked for" in text


@pytest.mark.parametrize(
    ("number", "words"), [(None, "is not known"), (0, "not pre-trained on any"), (7, "on 7 of the 30 test cells")]
)
def test_whether_the_model_has_seen_the_cells_is_told(
    make_result: Callable[..., AnnotationResult], number: int | None, words: str
) -> None:
    result = make_result(0, 6)
    facts = {**result.facts, "tested_cells_seen_in_pretraining": number}
    assert words in to_report(replace(result, facts=facts), FIGURES)


def test_labels_that_were_never_learned_are_told(make_result: Callable[..., AnnotationResult]) -> None:
    result = make_result(0, 6)
    strange = replace(result, scores=replace(result.scores, unseen_labels=("Platelet", "a|b")))
    for text in (to_report(strange, FIGURES), to_summary(strange)):
        told = "tests without a training cell, where every method is wrong: Platelet, a|b."
        assert told in " ".join(text.split())


def test_a_name_does_not_end_a_cell_of_a_table() -> None:
    (_, _, row) = table(("label", "cells"), [("a | b", "3")]).splitlines()
    assert row == "| a \\| b | 3     |"
