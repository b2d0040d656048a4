"""Runs of neighbours within a number of tokens and of items."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.data.token_runs import token_runs


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 60), st.none() | st.integers(1, 5))
def test_runs_are_neighbours_within_the_limits_and_as_long_as_they_can_be(
    lengths: list[int], most: int, most_items: int | None
) -> None:
    array = np.asarray(lengths, dtype=np.int64)
    parts = [array[run] for run in token_runs(array, most, most_items=most_items)]
    assert [length for part in parts for length in part.tolist()] == lengths
    items = most_items or len(lengths)
    assert all(len(part) == 1 or (part.sum() <= most and len(part) <= items) for part in parts)
    for part, following in zip(parts, parts[1:], strict=False):
        assert part.sum() + following[0] > most or len(part) == items


@pytest.mark.parametrize(("most", "runs"), [(None, [3, 1]), (6, [1, 2, 1])])
def test_without_a_number_of_tokens_only_items_count(most: int | None, runs: list[int]) -> None:
    assert [run.stop - run.start for run in token_runs([4, 3, 2, 9], most, most_items=3)] == runs
