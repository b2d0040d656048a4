from collections.abc import Callable

import numpy as np
import pytest

from xtrimogene.tasks.annotation.learned import Learned, Views
from xtrimogene.tasks.local_shift import LocalShift, voters

CENTERS = 10 * np.eye(6)[:4]
DISPLACED = np.array([[0, 0, 0, 0, 2.0, 1.0], [0, 0, 0, 0, -1.0, 2.0], [0, 0, 0, 0, 0.0, -2.0], [0.0] * 6])


def clouds(numbers: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    label = np.repeat(np.arange(len(numbers)), numbers)
    return CENTERS[label] + np.random.default_rng(seed).normal(size=(len(label), 6)) / 5, label


def test_each_part_is_moved_by_its_own_displacement() -> None:
    """Also where the query has other shares of the types."""
    cells, label = clouds([40, 40, 40, 40], 0)
    asked, own = clouds([20, 50, 20, 10], 1)
    moved = LocalShift.fit(cells).move(asked + DISPLACED[own], np.ones(100, dtype=bool))
    assert moved.dtype == np.float32
    for kind in range(4):
        apart = moved[own == kind].mean(axis=0) - cells[label == kind].mean(axis=0)
        assert np.linalg.norm(apart) < 0.2


def test_cells_that_do_not_vote_are_moved_by_those_that_do() -> None:
    cells, _ = clouds([40, 40, 40, 40], 0)
    asked, own = clouds([20, 20, 20, 20], 1)
    shift, asked = LocalShift.fit(cells), asked + DISPLACED[own]
    voting = np.arange(80) % 2 == 0
    far = asked + np.where(voting[:, None], 0, [0, 0, 0, 0, 3.0, 3.0])
    np.testing.assert_allclose(shift.move(far, voting)[voting], shift.move(asked, voting)[voting], atol=1e-6)
    assert np.linalg.norm(shift.move(far, voting) - far, axis=1)[~voting & (own < 2)].min() > 1


def test_without_votes_nothing_is_moved() -> None:
    cells, _ = clouds([40, 40, 40, 40], 0)
    asked, _ = clouds([5, 0, 0, 0], 1)
    shift = LocalShift.fit(cells)
    np.testing.assert_allclose(shift.move(asked + 1, np.zeros(5, dtype=bool)), asked + 1, atol=1e-6)
    assert shift.move(asked[:0], np.zeros(0, dtype=bool)).shape == (0, 6)


@pytest.mark.parametrize("number", [30, 200])
def test_a_type_that_the_reference_lacks_has_no_vote_and_stays_where_it_is(draw_kinds: Callable, number: int) -> None:
    """Though it gets the label of platelets, and has as many cells as the others together."""
    kinds = {"B cell": 70, "T cell": 70, "platelet": 70}
    learned: Learned = draw_kinds(kinds).learn()
    asked: Views = draw_kinds(kinds, seed=1).seen_by(learned)
    between = np.array([4.0, 18.0]) + np.random.default_rng(0).normal(size=(number, 2))
    odd = Views(
        embedding=np.vstack([asked.embedding, between]),
        components=np.vstack([asked.components, asked.components[:1].repeat(number, axis=0)]),
    )
    found = voters(learned, odd)
    assert not found[210:].any() and 0.3 < found[:210].mean() <= 0.8
    places = odd.embedding - learned.classifier.center
    moved = LocalShift.fit(draw_kinds(kinds).embedding - learned.classifier.center).move(places, found)
    assert np.linalg.norm(moved - places, axis=1)[210:].max() < 1.5
    everyone = LocalShift.fit(draw_kinds(kinds).embedding - learned.classifier.center).move(places, np.ones_like(found))
    assert np.linalg.norm(everyone - places, axis=1)[210:].mean() > 2


def test_where_few_labels_are_found_no_cell_votes(draw_kinds: Callable) -> None:
    learned = draw_kinds({"B cell": 60, "T cell": 60, "platelet": 60}).learn()
    assert not voters(learned, draw_kinds({"B cell": 30, "T cell": 30}, seed=1).seen_by(learned)).any()
