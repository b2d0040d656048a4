"""Pairs of a cell and a label: markers, what they say, and labels that are left out or added."""

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.errors import ConfigError
from xtrimogene.tasks.annotation.latent_expression import LatentExpression
from xtrimogene.tasks.annotation.learned import Learned, Views, fit_scorer
from xtrimogene.tasks.annotation.matching import MarkerEvidence, MarkerValues, Pairs, PairScorer, evidence_of_pairs

PLATELET = {"platelet": np.arange(20, 25)}


@pytest.fixture(scope="module")
def straight() -> LatentExpression:
    """The first number of a vector of two is what three genes hold, to a constant; others hold 7."""
    factors = np.zeros((45, 2), dtype=np.float32)
    factors[20:23, 0] = 1
    return LatentExpression(
        expand=np.eye(4, 2, dtype=np.float32),
        expand_bias=np.full(4, 50, dtype=np.float32),  # so far from 0 GELU changes nothing
        contract=np.eye(2, 4, dtype=np.float32),
        contract_bias=np.full(2, -50, dtype=np.float32),
        factors=factors,
        bias=np.full(45, 7, dtype=np.float32),
    )


def test_markers_are_what_a_label_holds_beyond_all_others() -> None:
    values = csr_matrix([[5, 4, 0, 1, 9], [5, 2, 0, 1, 0], [5, 0, 6, 1, 0], [5, 0, 2, 3, 0.0]])
    read = np.array([True, True, True, True, False])
    found = MarkerEvidence.fit(values, np.eye(4), np.array(["a", "a", "b", "c"]), read=read, expression=None)
    assert found.markers[:, 0].tolist() == [1, 2, 3] and 4 not in found.markers[:, :4]
    np.testing.assert_allclose(found.usual, [5, 1.5, 2, 1.5, 2.25])


def test_evidence_is_the_excess_over_what_is_usual(straight: LatentExpression) -> None:
    evidence = MarkerEvidence(
        markers=np.array([[20]]),
        usual=np.full(45, 0.5),
        center=np.array([2.0, 9.0]),
        expression=straight,
    )
    genes = np.array([20, 22, 30])
    cells = MarkerValues(
        values=csr_matrix([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), genes=genes, measured=np.array([True, True, False])
    )
    vectors = np.array([[5.0, 0.0], [2.0, 1.0]])
    found = evidence.of(vectors, cells, genes)
    np.testing.assert_allclose(found[:, 0], [2 - 0.5, -0.5], err_msg="of the two genes that were measured")
    np.testing.assert_allclose(
        found[:, 1], [2 / 3 * (5 - 2), 0], atol=1e-4, err_msg="of all three, one without factors"
    )
    np.testing.assert_array_equal(evidence.of(vectors, cells, np.array([30]))[:, 0], 0)


def test_pairs_are_weighed_as_logistic_regression_weighs_them() -> None:
    random = np.random.default_rng(0)
    evidence = random.normal(size=(4000, 2))
    odds = 2 * evidence[:, 0] - evidence[:, 1] - 0.5
    right = random.random(4000) < 1 / (1 + np.exp(-odds))
    pairs = Pairs(evidence=evidence, right=right, weight=np.ones(4000))
    np.testing.assert_allclose(pairs.fit(), [2, -1, -0.5], atol=0.2)
    twice = Pairs.join([pairs, Pairs(evidence=evidence, right=right, weight=np.zeros(4000))])
    np.testing.assert_allclose(twice.fit(), pairs.fit(), atol=0.05)


def test_a_score_is_the_evidence_by_its_weights() -> None:
    scorer = PairScorer(of_cells=np.array([1.0, -2, 3, 10]), of_markers=np.array([4.0, 1]))
    pairs = evidence_of_pairs(np.array([[-1.0, -np.inf]]), np.array([[0.5, 2]]), np.array([[[1.0], [2]]]))
    np.testing.assert_allclose(scorer.score(pairs), [[-1 - 1 + 3 + 10, -12 - 4 + 6 + 10]])
    np.testing.assert_allclose(scorer.score_described(np.array([[0.5]])), [3])


@pytest.mark.parametrize("latent", [False, True])
def test_a_type_that_the_reference_lacks_is_found_by_its_markers(
    latent: bool, reference: Any, draw_kinds: Any, straight: LatentExpression
) -> None:
    learned = Learned.fit(
        "match",
        reference.embedding,
        reference.counts,
        reference.labels,
        read=reference.read,
        expression=straight if latent else None,
    )
    asked = draw_kinds({"B cell": 20, "T cell": 20, "platelet": 20}, seed=5)
    cells = learned.view(asked.embedding, asked.counts, asked.read, described=PLATELET)
    scores = np.column_stack([learned.scores(cells), learned.described_scores(cells, PLATELET["platelet"])])
    assert (scores.argmax(axis=1) == np.repeat([0, 1, 2], 20)).all()
    alone = learned.view(asked.embedding[:3], asked.counts[:3], asked.read)
    np.testing.assert_allclose(learned.scores(alone), scores[:3, :2], atol=1e-5, err_msg="a pair stands by itself")


def test_the_scorer_learns_from_labels_left_out(draw_kinds: Any) -> None:
    cells = draw_kinds({"B cell": 40, "T cell": 40, "platelet": 40})
    scorer = fit_scorer(cells.embedding, cells.counts, cells.labels, read=cells.read, expression=None)
    assert scorer.of_cells[[0, 2]].min() > 0 > scorer.of_cells[1], "probable, near, full of markers"
    assert scorer.of_markers[0] > 0 > scorer.of_markers[1]


def test_each_label_is_left_out_and_all_weigh_alike(draw_kinds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = draw_kinds({"B cell": 60, "T cell": 20, "platelet": 9})
    learn, weigh = Learned.fit, Pairs.fit
    seen: list[set[str]] = []
    pairs: list[Pairs] = []

    def fit(method: str, embedding: np.ndarray, counts: csr_matrix, labels: np.ndarray, **options: Any) -> Learned:
        seen.append(set(labels.tolist()))
        return learn(method, embedding, counts, labels, **options)

    monkeypatch.setattr(Learned, "fit", staticmethod(fit))
    monkeypatch.setattr(Pairs, "fit", lambda self: pairs.append(self) or weigh(self))
    fit_scorer(cells.embedding, cells.counts, cells.labels, read=cells.read, expression=None)
    every = {"B cell", "T cell", "platelet"}
    assert sorted(map(sorted, seen)) == sorted(sorted(every - {label}) for label in every)
    of_cells, of_markers = pairs
    np.testing.assert_allclose(of_cells.weight[of_cells.right].sum(), 3 * 2, err_msg="three folds of two labels")
    np.testing.assert_allclose(
        of_markers.weight[of_markers.right].sum(), 3 * 3, err_msg="three labels, described thrice"
    )
    np.testing.assert_allclose(of_markers.weight.sum(), 3 * 3 * 3)


def test_views_of_parts_are_the_view_of_all(reference: Any) -> None:
    learned = reference.learn("match")
    whole = reference.seen_by(learned)
    parts = [
        reference.rows(rows).at(np.empty((len(rows), 0))).seen_by(learned)
        for rows in (np.arange(30), np.arange(30, 100))
    ]
    np.testing.assert_allclose(learned.scores(Views.join(parts, reference.embedding)), learned.scores(whole), atol=1e-5)
    odd = np.arange(1, 100, 2)
    np.testing.assert_allclose(learned.scores(whole.rows(odd)), learned.scores(whole)[odd], atol=1e-9)


def test_too_few_cells_to_learn_what_a_pair_is(draw_kinds: Any) -> None:
    few = draw_kinds({"B cell": 9, "T cell": 2})
    with pytest.raises(ConfigError, match="two labels or more with 3 cells each.*and here are 1; label more cells"):
        fit_scorer(few.embedding, few.counts, few.labels, read=few.read, expression=None)
    enough = draw_kinds({"B cell": 3, "T cell": 3})
    fit_scorer(enough.embedding, enough.counts, enough.labels, read=enough.read, expression=None)
