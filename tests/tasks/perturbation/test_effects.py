from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.errors import CountsError
from xtrimogene.tasks.perturbation.cell_groups import deal_cells
from xtrimogene.tasks.perturbation.effects import Effects, EffectSums, measure_effects, measure_halves, sum_effects


@pytest.fixture
def screen(make_counts: Callable[..., csr_matrix]) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    """Return 120 cells in two contexts: 40 controls and 20 of each of two perturbations a context, but 3 of "rare"."""
    names = np.array((["ctrl"] * 20 + ["A"] * 20 + ["B"] * 20) * 2)
    context = np.repeat(["x", "y"], 60)
    names[57:60] = "rare"
    return make_counts(120, 40, 0.4), names, context


def test_a_change_is_the_difference_of_means_in_the_same_context(screen: tuple) -> None:
    counts, names, context = screen
    effects = measure_effects(counts, names, context, "ctrl")
    assert list(zip(effects.perturbation.tolist(), effects.context.tolist(), strict=True)) == [
        ("A", 0), ("A", 1), ("B", 0), ("B", 1),
    ]  # fmt: skip
    dense = counts.toarray().astype(np.float64)
    values = np.log1p(1e4 * dense / np.maximum(dense.sum(axis=1, keepdims=True), 1))
    here = context == "y"
    expected = values[here & (names == "B")].mean(axis=0) - values[here & (names == "ctrl")].mean(axis=0)
    np.testing.assert_allclose(effects.change[3], expected, atol=1e-5)
    np.testing.assert_allclose(effects.control[1], values[here & (names == "ctrl")].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(effects.halves.mean(axis=0), effects.control, atol=1e-6)
    assert effects.num_cells.tolist() == [20, 20, 17, 20] and effects.num_controls.tolist() == [20, 20]
    groups = [values[(names == a) & (context == b)] for a in ("ctrl", "A", "B") for b in ("x", "y")]
    squares = sum(((group - group.mean(axis=0)) ** 2).sum(axis=0) for group in groups)
    np.testing.assert_allclose(effects.variance, squares / (sum(map(len, groups)) - 6), rtol=1e-4)


def test_a_context_without_control_cells_is_left_out(screen: tuple) -> None:
    counts, names, context = screen
    kept = (context == "y") | (names != "ctrl")
    effects = measure_effects(counts[np.flatnonzero(kept)], names[kept], context[kept], "ctrl")
    assert effects.context_names == ("y",) and effects.perturbation.tolist() == ["A", "B"]


def test_what_is_read_and_what_judges_share_no_control_cell(screen: tuple) -> None:
    counts, names, context = screen
    effects, truth = sum_effects(counts, names, context, "ctrl", seed=1).apart()
    assert effects.num_controls.tolist() == [10, 10]
    whole = measure_effects(counts, names, context, "ctrl")
    judge = effects.change + effects.control[effects.context] - truth  # the mean of the other control cells
    both = (judge + effects.control[effects.context]) / 2
    np.testing.assert_allclose(both, whole.control[whole.context], atol=1e-5)
    read, other = effects.apart()
    np.testing.assert_allclose(read.control, effects.halves[0])
    np.testing.assert_allclose(read.change - other, (effects.halves[1] - effects.halves[0])[effects.context], atol=1e-9)


def test_blocks_of_cells_do_not_change_what_is_measured(screen: tuple) -> None:
    counts, names, context = screen
    groups = deal_cells(names, context, "ctrl")
    sums = EffectSums(groups, counts.shape[1])
    for start in range(0, 120, 7):
        sums.add(counts[start : start + 7], start)
    whole = sum_effects(counts, names, context, "ctrl")
    for found, wanted in ((sums.effects(), whole.effects()), (sums.apart()[0], whole.apart()[0])):
        for field in fields(Effects):
            np.testing.assert_array_equal(*(np.shape(getattr(one, field.name)) for one in (found, wanted)))
        for name in ("change", "control", "halves", "variance", "num_cells", "num_controls"):
            np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-9)
    np.testing.assert_allclose(sums.apart()[1], whole.apart()[1], atol=1e-9)


def test_control_cells_that_judge_change_nothing_that_is_read(screen: tuple) -> None:
    counts, names, context = screen
    groups, other = deal_cells(names, context, "ctrl"), counts.tolil()
    judging = np.flatnonzero(groups.quarter % 2 == 1)  # -1 % 2 is 1: perturbed cells too
    judging = judging[groups.quarter[judging] >= 0]
    other[judging] = counts[judging][:, ::-1]
    (read, truth), (again, judged) = (
        sum_effects(csr_matrix(one), names, context, "ctrl").apart() for one in (counts, other)
    )
    for name in ("change", "control", "halves", "variance"):
        np.testing.assert_array_equal(getattr(read, name), getattr(again, name))
    assert not np.allclose(truth, judged)


def test_too_few_control_cells_to_judge_by_are_refused(screen: tuple) -> None:
    counts, names, context = screen
    kept = np.flatnonzero((names != "ctrl") | (np.arange(120) % 10 == 1))  # two a context
    sums = sum_effects(counts[kept], names[kept], context[kept], "ctrl", min_cells=2)
    assert sums.effects().num_controls.tolist() == [2, 2]
    with pytest.raises(CountsError, match="no context has 3 control cells, the most are 2"):
        sums.apart()


def test_two_halves_hold_different_cells(screen: tuple) -> None:
    counts, names, context = screen
    first, second = measure_halves(counts, names, context, "ctrl", min_cells=5)
    whole = measure_effects(counts, names, context, "ctrl")
    assert first.perturbation.tolist() == whole.perturbation.tolist()
    even = first.num_cells == 10
    np.testing.assert_allclose(((first.change + second) / 2)[even], whole.change[even], atol=1e-5)
    assert not np.allclose(first.change, second)


def test_rows_keep_the_contexts_they_are_in(make_effects: Callable[..., Effects]) -> None:
    effects = make_effects(["A", "B", "A"], [0, 1, 2])
    kept = effects.rows(np.array([2, 1]))
    assert kept.context_names == ("context 1", "context 2") and kept.context.tolist() == [1, 0]
    np.testing.assert_array_equal(kept.control[kept.context], effects.control[[2, 1]])


@pytest.mark.parametrize(
    ("control", "min_cells", "words"), [("ctrl", 30, "no context has 30 control"), ("A", 21, "no context")]
)
def test_too_few_cells_are_refused(screen: tuple, control: str, min_cells: int, words: str) -> None:
    with pytest.raises(CountsError, match=words):
        measure_effects(*screen, control, min_cells=min_cells)


def test_no_perturbation_with_enough_cells_is_refused(screen: tuple) -> None:
    counts, names, context = screen
    kept = np.isin(names, ["ctrl", "rare"])
    with pytest.raises(CountsError, match="no perturbation has 10 cells"):
        measure_effects(counts[np.flatnonzero(kept)], names[kept], context[kept], "ctrl")
