from collections.abc import Callable

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.errors import CountsError
from xtrimogene.tasks.perturbation.effects import Effects, measure_apart, measure_effects, measure_halves


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
    effects, truth = measure_apart(counts, names, context, "ctrl", seed=1)
    assert effects.num_controls.tolist() == [10, 10]
    whole = measure_effects(counts, names, context, "ctrl")
    judge = effects.change + effects.control[effects.context] - truth  # the mean of the other control cells
    both = (judge + effects.control[effects.context]) / 2
    np.testing.assert_allclose(both, whole.control[whole.context], atol=1e-5)
    read, other = effects.apart()
    np.testing.assert_allclose(read.control, effects.halves[0])
    np.testing.assert_allclose(read.change - other, (effects.halves[1] - effects.halves[0])[effects.context], atol=1e-9)


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
