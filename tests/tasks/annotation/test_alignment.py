import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrimogene.tasks.annotation.alignment import common_excess, common_shift, disagreement, label_centers

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


def test_labels_that_are_moved_alike_agree_and_one_type_under_several_names_does_not() -> None:
    cells, label = clouds([50, 50, 50, 50])
    assert abs(disagreement(cells + [30.0, -20.0], label, CENTERS)) < 0.01
    random = np.random.default_rng(0)
    alike = np.array([40.0, 3.0]) + random.normal(size=(200, 2))
    assert disagreement(alike, label, CENTERS) == pytest.approx(1.0, abs=0.1)
    assert disagreement(cells, np.repeat([0, 1], 100), CENTERS) == 1.0, "of two labels nothing is known"


def test_noise_of_few_cells_moves_little() -> None:
    """The mean displacement of cells that are not displaced is noise, and its length shrinks."""
    random = np.random.default_rng(0)
    label, centers = np.repeat([0, 1, 2], 10), np.zeros((3, 50))
    lengths = [np.linalg.norm(common_shift(random.normal(size=(30, 50)), label, centers)) for _ in range(50)]
    assert np.mean(lengths) < 0.35 * np.sqrt(50 * np.pi / 2 / 30)


def test_what_most_labels_are_farther_by_is_found() -> None:
    label = np.repeat([0, 1, 2, 3], [10, 10, 10, 9])
    distances = np.column_stack([np.where(label == 2, 50.0, 3.0), np.full(39, -1.0)])
    assert common_excess(distances, label, np.array([1.0, 1.0]), 4).tolist() == [2.0, 0.0]
    assert common_excess(distances[:20], label[:20], np.array([1.0, 1.0]), 4).tolist() == [0.0, 0.0]
