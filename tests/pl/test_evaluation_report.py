"""The folder of a report: whole or not at all, with figures that open."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from matplotlib import pyplot

from xtrimogene.errors import CheckpointError
from xtrimogene.evaluation import AnnotationResult, AnnotationStudy, annotation, report
from xtrimogene.pl import evaluation, evaluation_report


@pytest.fixture
def result(make_cells: Callable[..., AnnData], tiny_folder: Path, tmp_path: Path) -> AnnotationResult:
    cells = make_cells(num_cells=40)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    return annotation(
        AnnotationStudy(
            files=(str(tmp_path / "cells.h5ad"),), label_key="cell_type", split="cell", output="-", num_folds=2,
            model=str(tiny_folder), min_genes=1, methods=("linear",), outside=(), seeds=(0,), strengths=(0.1,),
            baselines=("majority", "pca"),
        ),
        progress=False,
    )  # fmt: skip


def test_a_report_holds_text_figures_and_numbers(result: AnnotationResult, tmp_path: Path) -> None:
    folder = report(result, tmp_path / "above" / "report")
    names = {"report.md", "report.json", "macro_f1.png", "confusion.png", "calibration.png"}
    assert {path.name for path in folder.iterdir()} == names
    assert {path.name for path in folder.parent.iterdir()} == {"report"}
    text = (folder / "report.md").read_text()
    assert all(f"({name})" in text for name in names if name.endswith(".png"))
    assert (
        text.endswith(f"{result.verdict.replace('*', chr(92) + '*')} in macro-F1.\n")
        and "Split by cell, as asked for" in text
    )
    assert json.loads((folder / "report.json").read_text())["verdict"] == result.verdict
    for name in names:
        if name.endswith(".png"):
            drawn = pyplot.imread(folder / name)
            assert min(drawn.shape[:2]) > 200 and drawn.std() > 0.01
    assert not pyplot.get_fignums(), "figures are closed"
    with pytest.raises(CheckpointError):
        report(result, folder)


def test_nothing_is_left_of_a_report_that_fails(
    result: AnnotationResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(found: AnnotationResult) -> None:
        raise RuntimeError("full")

    monkeypatch.setattr(evaluation_report.evaluation, "confusion", fail)
    place = tmp_path / "somewhere"
    place.mkdir()
    with pytest.raises(RuntimeError, match="full"):
        report(result, place / "report")
    assert not list(place.iterdir())


def test_ours_stands_out_and_the_best_is_on_top(result: AnnotationResult) -> None:
    ax = evaluation.macro_f1(result)
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    best = max(result.scores.scores, key=lambda score: score.macro_f1.mean)
    assert names[-1] == str(best.method) and len(names) == len(result.scores.scores)
    bold = [tick.get_text() for tick in ax.get_yticklabels() if tick.get_fontweight() == "bold"]
    assert bold == [str(result.ours)]


def test_many_long_labels_and_cells_without_one_are_drawn(result: AnnotationResult) -> None:
    truth = np.array([f"a cell type with a rather long name {number % 60}" for number in range(240)])
    given = truth.copy()
    given[0] = ""
    many = replace(result, truth=truth, predicted=given)
    ax = evaluation.confusion(many)
    columns = [tick.get_text() for tick in ax.get_xticklabels()]
    assert len(columns) <= 40 and evaluation.OTHERS in columns


def test_without_cells_whose_label_was_learned_there_is_no_curve(result: AnnotationResult, tmp_path: Path) -> None:
    none = replace(result, confidence=np.zeros(0), right=np.zeros(0, dtype=bool), worth={})
    folder = report(none, tmp_path / "report")
    assert not (folder / "calibration.png").exists()
    assert "No test cell has a label that was learned from." in (folder / "report.md").read_text()
