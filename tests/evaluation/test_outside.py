"""Other people's methods on tiny counts: they learn, they leave nothing behind, and a star is put where it belongs."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from xtrimogene.evaluation import study as module
from xtrimogene.evaluation.comparison import Method
from xtrimogene.evaluation.outside.methods import outside_runs
from xtrimogene.evaluation.study import AnnotationStudy
from xtrimogene.evaluation.tasks import Task
from xtrimogene.evaluation.trials import Answer, Lesson

TRUTH = np.array(["a", "b", "c"])[np.arange(30) % 3]
Runner = Callable[[Lesson], Mapping[Method, Answer]]


def runner(name: str) -> Runner:
    if name == "celltypist":
        from xtrimogene.evaluation.outside.celltypist import run_celltypist

        return run_celltypist
    if name == "harmony":
        from xtrimogene.evaluation.outside.harmony import run_harmony

        return lambda lesson: run_harmony(lesson, (0.1,))
    from xtrimogene.evaluation.outside.scvi import run_scanvi, run_scvi

    if name == "scvi":
        return lambda lesson: run_scvi(lesson, (0.1,), epochs=40)
    return lambda lesson: run_scanvi(lesson, epochs=60)


@pytest.mark.parametrize(
    ("name", "methods", "least"),
    [
        ("celltypist", {"CellTypist"}, 0.9),
        ("harmony", {"Harmony*, linear", "Harmony*, knn"}, 0.9),
        pytest.param("scvi", {"scVI, linear", "scVI, knn"}, 0.6, marks=pytest.mark.slow),
        pytest.param("scanvi", {"scANVI*"}, 0.5, marks=pytest.mark.slow),
    ],
)
def test_it_learns_the_same_again_and_leaves_nothing_behind(
    name: str, methods: set[str], least: float, lesson: Lesson
) -> None:
    run = runner(name)
    handlers, numbers, torch_state = list(logging.getLogger().handlers), np.random.get_state()[1], torch.get_rng_state()
    found = run(lesson)
    assert logging.getLogger().handlers == handlers and logging.root.manager.disable == 0
    assert (np.random.get_state()[1] == numbers).all() and torch.equal(torch.get_rng_state(), torch_state)
    assert {str(method) for method in found} == methods
    again = run(lesson)
    for method, answer in found.items():
        assert (answer.labels == TRUTH).mean() >= least, method
        np.testing.assert_array_equal(answer.labels, again[method].labels)


@pytest.mark.parametrize("name", ["celltypist", pytest.param("scvi", marks=pytest.mark.slow)])
def test_without_a_star_an_answer_depends_on_no_other_test_cell(name: str, lesson: Lesson) -> None:
    few = replace(
        lesson, asked=lesson.asked[:7], asked_rows=lesson.asked_rows[:7], asked_batches=lesson.asked_batches[:7]
    )
    run = runner(name)
    of_all, of_few = run(lesson), run(few)
    for method, answer in of_few.items():
        np.testing.assert_array_equal(answer.labels, of_all[method].labels[:7])


def test_two_labels_are_enough(lesson: Lesson) -> None:
    kept = np.flatnonzero(lesson.labels != "c")
    two = replace(
        lesson,
        rows=lesson.rows[kept],
        counts=lesson.counts[kept],
        labels=lesson.labels[kept],
        groups=None,
        batches=lesson.batches[kept],
    )
    (answer,) = runner("celltypist")(two).values()
    assert (answer.labels == TRUTH)[TRUTH != "c"].mean() > 0.9


def test_what_is_not_run_has_a_reason(make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch) -> None:
    study = AnnotationStudy(files=("a",), label_key="t", output="o", split="cell", outside=("harmony", "celltypist"))
    task = make_task()
    runs, reasons = outside_runs(study, task)
    assert len(runs) == 2 and reasons == {"scvi": "not asked for", "scanvi": "not asked for"}
    runs, reasons = outside_runs(study, replace(task, groups=np.full(90, "one")))
    assert len(runs) == 1 and "one batch" in reasons["harmony"]
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "scvi" else object())
    runs, reasons = outside_runs(replace(study, outside=None), task)
    assert len(runs) == 2 and reasons["scvi"] == "scvi-tools is not installed: pip install 'xtrimogene[eval]'"


def test_a_study_decides_how_methods_learn(make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, tuple[tuple[object, ...], dict[str, object]]] = {}

    def notes(name: str) -> Callable[..., dict[Method, Answer]]:
        return lambda lesson, *given, **options: told.update({name: (given, options)}) or {}

    for name in ("harmony", "scvi", "scanvi"):
        place = "scvi" if name == "scanvi" else name
        monkeypatch.setattr(f"xtrimogene.evaluation.outside.{place}.run_{name}", notes(name))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    options = {"split": "cell", "outside": ("harmony", "scvi", "scanvi"), "strengths": (0.5,), "epochs": 7}
    runs, _ = outside_runs(AnnotationStudy(files=("a",), label_key="t", output="o", **options), make_task())
    for run in runs:
        run(None)
    learned = {"epochs": 7}
    assert told == {"harmony": (((0.5,),), {}), "scvi": (((0.5,),), learned), "scanvi": ((), learned)}
