"""Scores of rankings, worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.retrieval import RetrievalScores


def scores(answers: str, num_right: int) -> dict[str, float]:
    """Of one query: "+" is a right answer, "-" a wrong one."""
    found = RetrievalScores.of(np.array([[answer == "+" for answer in answers]]), np.array([num_right]))
    return {name: float(getattr(found, name)[0]) for name in RetrievalScores.__slots__}


def test_right_answers_at_ranks_two_and_four_of_three() -> None:
    found = scores("-+-+", 3)
    assert found["mrr"] == pytest.approx(1 / 2)
    assert found["map"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["mmrr"] == pytest.approx((1 / 2 + 1 / 4 + 0) / 3)
    assert found["mmrr_of_best"] == pytest.approx((1 / 2 + 1 / 4) / (1 + 1 / 2 + 1 / 3))


def test_a_perfect_ranking_is_perfect_but_for_mmrr() -> None:
    found = scores("++", 4)
    assert found["mrr"] == found["map"] == found["mmrr_of_best"] == 1
    assert found["recall"] == 0.5
    assert found["mmrr"] == pytest.approx((1 + 1 / 2) / 4)


def test_nothing_right_is_nothing() -> None:
    assert set(scores("---", 2).values()) == {0.0}


def test_queries_are_judged_one_by_one() -> None:
    right = np.array([[True, False], [False, True]])
    found = RetrievalScores.of(right, np.array([1, 2]))
    np.testing.assert_allclose(found.mrr, [1, 1 / 2])
    np.testing.assert_allclose(found.mmrr, [1, 1 / 4])
    np.testing.assert_allclose(found.mmrr_of_best, [1, (1 / 2) / (1 + 1 / 2)])


@given(answers=st.text("+-", min_size=1, max_size=12), more=st.integers(0, 5))
def test_all_lie_between_nothing_and_one_and_an_earlier_right_answer_is_worth_more(answers: str, more: int) -> None:
    num_right = max(answers.count("+") + more, 1)
    found = scores(answers, num_right)
    assert all(0 <= value <= 1 + 1e-12 for value in found.values())
    if "-+" in answers:
        earlier = scores(answers.replace("-+", "+-", 1), num_right)
        assert earlier["mmrr"] > found["mmrr"] and earlier["map"] > found["map"] - 1e-12
        assert earlier["recall"] == found["recall"]


def test_what_cannot_be_judged_is_refused() -> None:
    for num_right in (0, 1):
        with pytest.raises(ConfigError, match="each query needs a right answer"):
            scores("++", num_right)
    with pytest.raises(ConfigError, match="1 queries with 0 answers cannot be judged"):
        RetrievalScores.of(np.zeros((1, 0), dtype=bool), np.array([1]))
