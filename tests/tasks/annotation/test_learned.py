import tracemalloc
from typing import Any

import numpy as np
from scipy.special import softmax

from xtrimogene.tasks.annotation.learned import Views, draw_cells


def test_the_ensemble_is_the_mean_probability_of_both(reference: Any) -> None:
    both, alone = reference.learn("ensemble"), reference.learn("linear")
    cells = reference.seen_by(both)
    parts = [both.classifier.scores(cells.embedding), both.by_expression.scores(cells.components)]
    wanted = np.mean([softmax(scores, axis=1) for scores in parts], axis=0)
    np.testing.assert_allclose(softmax(both.scores(cells), axis=1), wanted, atol=1e-9)
    np.testing.assert_array_equal(alone.scores(cells), parts[0])


def test_distances_are_those_of_both_spaces(reference: Any, draw_kinds: Any) -> None:
    learned, asked = reference.learn(), draw_kinds({"T cell": 5, "platelet": 5}, seed=4)
    far = asked.at(asked.embedding + 1000)
    near, moved = (learned.distances(one.seen_by(learned)) for one in (asked, far))
    assert (near[5:] > near[:5].max(axis=0)).all(), "platelets lie far in both"
    assert (moved[:, 0] > near[:, 0] + 3).all() and (moved[:, 1] == near[:, 1]).all()


def test_a_shift_in_one_space_moves_that_space_alone(draw_kinds: Any) -> None:
    learned = draw_kinds({"B cell": 60, "T cell": 60, "platelet": 60}).learn()
    asked = draw_kinds({"B cell": 30, "T cell": 30, "platelet": 30}, seed=4)
    straight, odd = asked.seen_by(learned), asked.at(asked.embedding + [3.0, -2.0]).seen_by(learned)
    moved, aligned = learned.align(odd)
    assert aligned
    np.testing.assert_allclose((odd.embedding - moved.embedding)[0], [3.0, -2.0], atol=0.5)
    apart = np.linalg.norm((odd.components - moved.components)[0])
    assert apart < 0.2 * np.linalg.norm(straight.components, axis=1).mean()


def test_cells_that_lie_far_have_no_say_in_a_shift(draw_kinds: Any) -> None:
    learned = draw_kinds({"B cell": 60, "T cell": 60, "platelet": 60}).learn()
    cells = draw_kinds({"B cell": 200, "T cell": 200, "platelet": 200}, seed=4).seen_by(learned)
    far = np.arange(600) % 5 > 0
    odd = Views(embedding=cells.embedding + 5.0 * far[:, None], components=cells.components + 9.0 * far[:, None])
    moved, aligned = learned.align(odd)
    assert aligned and np.linalg.norm((odd.embedding - moved.embedding)[0]) < 0.5


def test_few_cells_are_all_drawn() -> None:
    drawn, counted = draw_cells(np.resize(["a", "b"], 30), most=30)
    assert drawn.tolist() == list(range(30)) and counted.all()


def test_rare_labels_are_drawn_more_often_and_count_by_their_share() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(["many", "some", "rare"], [70_000, 29_900, 100]))
    drawn, counted = draw_cells(labels, most=10_000)
    drawn_of, counted_of = (
        dict(zip(*np.unique(labels[rows], return_counts=True), strict=True)) for rows in (drawn, drawn[counted])
    )
    assert drawn_of == {"many": 7000, "rare": 100, "some": 2990}
    assert counted_of == {"many": 7000, "rare": 10, "some": 2990}
    assert (np.diff(drawn) > 0).all() and (drawn != draw_cells(labels, most=10_000, seed=1)[0]).any()


def test_many_labels_are_not_drawn_beyond_what_may_be() -> None:
    labels = np.repeat([f"type {number}" for number in range(700)], 1000)
    drawn, counted = draw_cells(labels, most=7_000)
    assert len(drawn) == 7_000 and counted.all() and len(np.unique(labels[drawn])) == 700


def test_no_table_of_all_pairs_is_made_of_aligned_cells(draw_kinds: Any) -> None:
    cells = draw_kinds({"B cell": 900, "T cell": 900, "platelet": 900})
    wide = cells.at(np.hstack([cells.embedding, np.zeros((2700, 30), dtype=np.float32)]))  # too wide for a tree
    learned = wide.learn()
    moved, aligned = learned.align(wide.at(wide.embedding + np.float32(1)).seen_by(learned))
    tracemalloc.start()
    learned.distances(moved)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert aligned and peak < 2700 * 2700
