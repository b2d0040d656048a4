"""What methods are given: no test cell and no group of an inner fold on both sides, answers in the tested order."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest

from xtrimogene.evaluation.comparison import Method
from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.tasks import Task
from xtrimogene.evaluation.trials import Answer, Lesson, Sureness, lesson_of, run_trials

METHOD = Method(features="told", classifier=None)


def test_inner_folds_are_of_the_cells_learned_from_and_keep_groups_apart(
    make_task: Callable[..., Task], lesson: Lesson
) -> None:
    tested = [fold.test for fold in lesson.inner]
    assert sorted(np.concatenate(tested).tolist()) == list(range(len(lesson.rows))), "each cell once, and no other"
    assert lesson.groups is not None and {fold.grouping for fold in lesson.inner} == {"donor"}
    for fold in lesson.inner:
        assert not set(lesson.groups[fold.train]) & set(lesson.groups[fold.test])
        assert len(fold.train) + len(fold.test) == len(lesson.rows)
    assert not set(lesson.rows) & set(lesson.asked_rows)
    labels = make_task().labels
    assert (lesson.labels == labels[lesson.rows]).all()
    assert not {field.name for field in fields(Lesson)} & {"asked_labels", "truth"}, "no method sees them"


@pytest.mark.parametrize("groups", [None, "one group", "a label each"])
def test_inner_folds_are_by_cell_where_no_group_can_be_held_out(
    make_task: Callable[..., Task], groups: str | None
) -> None:
    task = make_task()
    kinds = {None: None, "one group": np.full(90, "d"), "a label each": task.labels}
    found = lesson_of(task, task.counts, task.splits[0][0], kinds[groups], "donor", 3, 0)
    assert found.groups is None and {fold.grouping for fold in found.inner} == {"cell"}


def test_answers_are_put_in_the_order_of_the_tested_cells(make_task: Callable[..., Task]) -> None:
    task = make_task()
    halves = (np.arange(75, 90), np.arange(60, 75))  # the later cells first
    rest = np.arange(60)
    splits = tuple(Split(name=f"{half[0]}", train=rest, test=half, grouping="study") for half in halves)
    task = replace(task, splits=(splits, splits))

    def tell(lesson: Lesson) -> dict[Method, Answer]:
        rows = lesson.asked_rows
        sureness = Sureness(
            confidence=rows / 100.0,
            possible=tuple(frozenset([f"{row}"]) for row in rows),
            unknown=rows % 2 == 0,
        )
        chosen = {"setting": "C", "value": 1.0}
        return {METHOD: Answer(labels=np.array([f"{row}" for row in rows]), sureness=sureness, chosen=chosen)}

    done: list[int] = []
    trials = run_trials(
        task, [tell], groups=None, group_name="donor", num_inner_folds=2, seeds=(4, 5), advance=done.append
    )
    expected = [f"{row}" for row in range(60, 90)]
    assert [one.tolist() for one in trials.predictions[METHOD]] == [expected, expected]
    said = trials.sureness[METHOD][1]
    np.testing.assert_allclose(said.confidence, np.arange(60, 90) / 100)
    assert [next(iter(one)) for one in said.possible] == expected and said.unknown[0] and not said.unknown[1]
    assert done == [1] * 4 and [one["seed"] for one in trials.chosen] == [4, 4, 5, 5]
    assert trials.learned[0].all()


def test_a_label_that_was_not_learned_is_marked(make_task: Callable[..., Task]) -> None:
    task = make_task()
    labels = task.labels.copy()
    labels[61] = "new"
    task = replace(task, labels=labels)
    told = run_trials(
        task,
        [lambda lesson: {METHOD: Answer(labels=np.full(30, "a"))}],
        groups=None,
        group_name="donor",
        num_inner_folds=2,
        seeds=(0,),
    )
    assert np.flatnonzero(~told.learned[0]).tolist() == [1] and not told.sureness
