"""`VectorIndex` finds what comparing all vectors finds, few or many, allowed or not, from memory or from disk."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrimogene.errors import ConfigError
from xtrimogene.tasks.cell_search import vector_index
from xtrimogene.tasks.cell_search.cell_space import unit
from xtrimogene.tasks.cell_search.vector_index import VectorIndex, VectorPrecision, check_precision


def draw(number: int, *, width: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(number, width)).astype(np.float32)


def made_of(vectors: np.ndarray, precision: VectorPrecision = "float32") -> VectorIndex:
    index = VectorIndex.empty(vectors.shape[1], precision)
    for part in np.array_split(vectors, 3):
        index.add(part, threads=1)
    return index


def cosines(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return unit(queries) @ unit(vectors).T


@given(
    number=st.integers(1, 40),
    num_queries=st.integers(0, 4),
    k=st.integers(1, 50),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_few_vectors_are_all_compared(number: int, num_queries: int, k: int, share: float) -> None:
    vectors, queries = draw(number), draw(num_queries, seed=1)
    allowed = np.random.default_rng(2).random(number) < share
    found = made_of(vectors).search(queries, k, allowed=allowed)
    there = min(k, int(allowed.sum()))
    assert found.rows.shape == found.scores.shape == (num_queries, there)
    expected = np.where(allowed, cosines(vectors, queries), -np.inf)
    for rows, scores, cosine in zip(found.rows, found.scores, expected, strict=True):
        np.testing.assert_allclose(scores, np.sort(cosine)[::-1][:there], atol=1e-5)
        np.testing.assert_allclose(cosine[rows], scores, atol=1e-5)


@pytest.mark.parametrize("block_rows", [70, 1000])
def test_of_copies_the_first_are_found_whatever_else_is_asked(block_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of matrices rounds a row by the number of rows, so copies differ by a last digit."""
    monkeypatch.setattr(vector_index, "BLOCK_ROWS", block_rows)
    vectors, queries = draw(150, width=178), draw(60, width=178, seed=1)
    index = made_of(np.vstack([vectors] * 3))
    together = index.search(np.vstack([vectors[:3], queries]), 5)
    assert (together.rows[:3, :3] == np.arange(3)[:, None] + [0, 150, 300]).all() and together.scores.max() <= 1
    np.testing.assert_array_equal(together.rows[:, 0] + 150, together.rows[:, 1])
    np.testing.assert_array_equal(together.rows[:, 3] + 150, together.rows[:, 4])
    for place, query in enumerate([*vectors[:3], *queries]):
        alone = index.search(query[None], 5)
        np.testing.assert_array_equal(alone.rows[0], together.rows[place])
        np.testing.assert_array_equal(alone.scores[0], together.scores[place])


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("num_queries", [1, 7])
def test_the_graph_finds_what_comparing_finds(
    precision: VectorPrecision, num_queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, queries = draw(600), draw(num_queries, seed=1)
    index = made_of(vectors, precision)
    compared = index.search(queries, 5)
    monkeypatch.setattr(vector_index, "EXACT_ROWS", 10)
    monkeypatch.setattr(VectorIndex, "_compared", lambda *_: pytest.fail("walk instead"))
    walked = index.search(queries, 5)
    shared = [len(np.intersect1d(*pair)) for pair in zip(walked.rows, compared.rows, strict=True)]
    assert np.mean(shared) >= (4 if precision == "int8" else 4.8)
    np.testing.assert_allclose(walked.scores, compared.scores, atol=0.02 if precision == "int8" else 2e-3)
    allowed = np.arange(600) % 3 == 0
    among = index.search(queries, 5, allowed=allowed)
    assert allowed[among.rows].all() and (np.diff(among.scores, axis=1) <= 0).all()
    best = np.sort(np.where(allowed, cosines(vectors, queries), -1), axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(among.scores, best, atol=0.05 if precision == "int8" else 5e-3)


def test_a_filter_that_leaves_few_neighbours_still_finds_k(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = draw(600)
    queries = vectors[:2]
    index = made_of(vectors)
    allowed = cosines(vectors, queries).max(axis=0) < 0.1  # only what lies far from the queries
    expected = index.search(queries, 20, allowed=allowed)
    monkeypatch.setattr(vector_index, "EXACT_ROWS", 10)
    monkeypatch.setattr(vector_index, "MOST_WALKED", 100)
    found = index.search(queries, 20, allowed=allowed)
    np.testing.assert_array_equal(found.rows, expected.rows)


def test_more_neighbours_than_the_graph_reaches_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many equal vectors a graph reaches some."""
    vectors = np.concatenate([np.repeat(draw(1), 300, axis=0), draw(300, seed=1)])
    index = made_of(vectors)
    monkeypatch.setattr(vector_index, "EXACT_ROWS", 10)
    found = index.search(draw(3, seed=2), 590)
    assert found.rows.shape == (3, 590)
    assert all(len(np.unique(rows)) == 590 for rows in found.rows)


def test_a_query_has_one_answer_in_any_company() -> None:
    index = made_of(draw(300), "float16")
    queries = draw(6, seed=1)
    together = index.search(queries, 4)
    for place, query in enumerate(queries):
        alone = index.search(query[None], 4)
        np.testing.assert_array_equal(alone.rows[0], together.rows[place])
        np.testing.assert_allclose(alone.scores[0], together.scores[place], atol=1e-6)


def test_what_is_saved_answers_as_before_and_a_wrong_width_is_refused(tmp_path: Path) -> None:
    vectors = draw(50)
    index = made_of(vectors, "float16")
    index.save(tmp_path / "vectors")
    opened = VectorIndex.open(tmp_path / "vectors", 12)
    assert len(opened) == 50
    found, expected = (one.search(draw(3, seed=1), 5) for one in (opened, index))
    np.testing.assert_array_equal(found.rows, expected.rows)
    with pytest.raises(ConfigError, match="precision='float8' is not one of float16, float32, int8"):
        check_precision("float8")
    with pytest.raises(ConfigError, match="holds no vectors of 7 numbers"):
        VectorIndex.open(tmp_path / "vectors", 7)


def test_blocks_and_shares_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    index, queries = made_of(draw(200)), draw(9, seed=1)
    expected = index.search(queries, 6)
    monkeypatch.setattr(vector_index, "BLOCK_ROWS", 33)
    monkeypatch.setattr(vector_index, "BLOCK_QUERIES", 2)
    found = index.search(queries, 6)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
