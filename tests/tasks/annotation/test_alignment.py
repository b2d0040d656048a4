import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrimogene.tasks.annotation.alignment import common_shift, label_centers

CENTERS = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])


def clouds(numbers: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    label = np.repeat(np.arange(len(numbers)), numbers)
    return CENTERS[label] + np.random.default_rng(seed).normal(size=(len(label), 2)) / 10, label


def test_centers_are_means() -> None:
    cells = np.array([[0.0, 2.0], [4.0, 0.0], [2.0, 2.0]])
    found = label_centers(cells, np.array(["b", "a", "b"]), np.array(["a", "aa", "b"]))
    assert found.tolist() == [[4.0, 0.0], [0.0, 0.0], [1.0, 2.0]]


@settings(max_examples=20)
@given(st.integers(0, 99), st.floats(-50, 50), st.floats(-50, 50))
def test_a_shift_of_all_is_found(seed: int, right: float, up: float) -> None:
    cells, label = clouds([10, 200, 30, 40], seed)
    np.testing.assert_allclose(common_shift(cells + [right, up], label, CENTERS), [right, up], atol=0.1)


def test_one_label_that_lies_elsewhere_moves_nothing() -> None:
    """However many cells it has: a type that the reference lacks, called by the name of another."""
    cells, label = clouds([20, 5000, 20, 20])
    cells[label == 1] += [100.0, -100.0]
    np.testing.assert_allclose(common_shift(cells, label, CENTERS), [0, 0], atol=0.1)


@pytest.mark.parametrize(("numbers", "moved"), [([50, 50, 0, 0], 0), ([50, 50, 9, 9], 0), ([50, 50, 10, 9], 1)])
def test_among_few_labels_nothing_is_common(numbers: list[int], moved: float) -> None:
    cells, label = clouds(numbers)
    np.testing.assert_allclose(common_shift(cells + 1, label, CENTERS), [moved, moved], atol=0.1)


def test_no_cells_no_shift() -> None:
    assert common_shift(np.empty((0, 2)), np.empty(0, dtype=int), CENTERS).tolist() == [0, 0]
