import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.bootstrap import unit_weights
from xtrimogene.evaluation.edge_ranking import EdgeRanking, source_aurocs

EVERY = np.ones((2, 3), dtype=bool)


def test_worked_by_hand() -> None:
    """Six pairs, two known, at ranks 1 and 4: early precision 1/2, average precision (1 + 2/4) / 2, chance 1/3."""
    scores = np.array([[6.0, 5.0, 4.0], [3.0, 2.0, 1.0]])
    known = np.array([[True, False, False], [True, False, False]])
    ranking = EdgeRanking.of(scores, known, EVERY)
    assert ranking.density == pytest.approx(1 / 3)
    np.testing.assert_allclose(ranking.ratios(), [[0.5 * 3, 0.75 * 3]])
    np.testing.assert_allclose(source_aurocs(scores, known, EVERY), [1.0, 1.0])


def test_a_pair_that_is_not_asked_counts_nowhere() -> None:
    scores = np.array([[np.nan, 5.0, 4.0], [3.0, np.nan, 1.0]])
    known = np.array([[False, True, False], [False, False, True]])
    ranking = EdgeRanking.of(scores, known, ~np.isnan(scores))
    np.testing.assert_allclose(ranking.ratios(), [[0.5 * 2, 0.75 * 2]])
    np.testing.assert_allclose(source_aurocs(scores, known, ~np.isnan(scores)), [1.0, 0.0])


def test_equal_scores_are_chance() -> None:
    known = np.array([[True, False, False], [False, True, False]])
    ranking = EdgeRanking.of(np.zeros((2, 3)), known, EVERY)
    np.testing.assert_allclose(ranking.ratios(), [[1.0, 1.0]])
    np.testing.assert_allclose(source_aurocs(np.zeros((2, 3)), known, EVERY), [0.5, 0.5])


@given(st.integers(0, 10_000))
def test_a_source_drawn_twice_counts_as_two(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, 5, size=(3, 6)).astype(float)  # with ties
    known = random.random((3, 6)) < 0.4
    known[:, 0], known[:, 1] = True, False
    every = np.ones_like(known)
    drawn = EdgeRanking.of(scores, known, every).ratios(np.array([[2.0, 0.0, 1.0]]))
    rows = [0, 0, 2]
    copied = EdgeRanking.of(scores[rows], known[rows], every).ratios()
    np.testing.assert_allclose(drawn, copied)


def test_random_scores_are_chance_on_average() -> None:
    random = np.random.default_rng(0)
    known = random.random((20, 400)) < 0.1
    every = np.ones_like(known)
    ratios = [EdgeRanking.of(random.random(known.shape), known, every).ratios()[0] for _ in range(20)]
    np.testing.assert_allclose(np.mean(ratios, axis=0), [1.0, 1.0], atol=0.06)
    interval = EdgeRanking.of(random.random(known.shape), known, every).ratios(unit_weights(20, 50, 0))
    assert interval.shape == (51, 2) and np.ptp(interval[:, 1]) > 0


def test_bad_pairs_are_refused() -> None:
    known = np.array([[True, False, False], [False, False, False]])
    with pytest.raises(ConfigError, match="no finite number"):
        EdgeRanking.of(np.full((2, 3), np.nan), known, EVERY)
    with pytest.raises(ConfigError, match="0 of 6 pairs asked are known"):
        EdgeRanking.of(np.zeros((2, 3)), np.zeros((2, 3), dtype=bool), EVERY)
