"""Random genes of like expression, and how far an edit is from them."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.errors import ConfigError
from xtrimogene.tasks.in_silico.edits import Edit, EditableCells
from xtrimogene.tasks.in_silico.null import compare, draw_like, false_discovery_rates, gene_features


def test_features_are_how_many_cells_express_a_gene_and_how_much() -> None:
    counts = csr_matrix(np.array([[5, 5, 0], [0, 9, 1], [0, 10, 0]], dtype=np.float32))
    expected = np.log1p([[1, 5000], [3, (0.5 + 0.9 + 1) / 3 * 1e4], [1, 1000]])
    np.testing.assert_allclose(gene_features(EditableCells(counts)), expected)


def test_random_genes_are_others_alike_in_expression(make_counts: Callable[..., csr_matrix]) -> None:
    counts = make_counts(60, 200, 0.3).tolil()
    counts[:, 100:] = 0
    counts[:6, 100:] = 1  # rare genes
    cells = EditableCells(csr_matrix(counts))
    edits = [Edit(kind="knock-out", genes=(3,)), Edit(kind="knock-out", genes=(4, 150))]
    allowed = cells.num_expressing > 0
    drawn = draw_like(edits, cells, allowed, 40, seed=0)
    assert drawn == draw_like(edits, cells, allowed, 40, seed=0) != draw_like(edits, cells, allowed, 40, seed=1)
    assert len(set(drawn)) == len(drawn) <= 40
    assert len(drawn) > 35 and {len(edit.genes) for edit in drawn} == {1, 2}
    assert not {3, 4, 150} & {gene for edit in drawn for gene in edit.genes}
    for edit in drawn:
        assert [gene < 100 for gene in edit.genes] == [True, False][: len(edit.genes)]


def test_too_few_genes_to_draw_from_are_refused(make_counts: Callable[..., csr_matrix]) -> None:
    cells = EditableCells(make_counts(20, 20, 0.5))
    with pytest.raises(ConfigError, match="19 measured genes are expressed in enough cells, and 20 are needed"):
        draw_like([Edit(kind="knock-out", genes=(3,))], cells, np.arange(20) > 0, 20, seed=0)


def test_where_all_are_edited_they_are_drawn_themselves(make_counts: Callable[..., csr_matrix]) -> None:
    cells = EditableCells(make_counts(20, 30, 0.5))
    edits = [Edit(kind="knock-out", genes=(gene,)) for gene in range(30)]
    drawn = draw_like(edits, cells, np.ones(30, dtype=bool), 25, seed=0)
    assert set(drawn) <= set(edits) and len(drawn) > 20


def test_an_edit_is_not_compared_with_itself() -> None:
    scores = np.random.default_rng(0).normal(size=30)
    scores[7] = 100
    features = np.zeros((30, 2))
    found = compare(scores, features, scores, features, two_sided=False, same=np.eye(30, dtype=bool))
    assert found.expected[7] == pytest.approx(np.delete(scores, 7).mean()) and found.p[7] == 1 / 30


def test_an_edit_is_compared_with_its_like() -> None:
    random = np.random.default_rng(0)
    features = np.repeat([[0.0, 0.0], [10.0, 0.0]], 100, axis=0) + random.normal(size=(200, 2)) * 0.1
    scores = np.concatenate([random.uniform(-1, 1, 100), 50 + random.uniform(-9, 9, 100)])
    asked = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 0.0]])
    found = compare(np.array([4.0, 50.0, np.nan]), asked, scores, features, two_sided=True)
    assert abs(found.expected[0]) < 0.6 and abs(found.expected[1] - 50) < 3
    assert 0.4 < found.spread[0] < 0.8 and 3 < found.spread[1] < 7
    assert found.z[0] == pytest.approx((4 - found.expected[0]) / found.spread[0]) and abs(found.z[1]) < 1
    assert found.p[0] == 1 / 201 and found.p[1] > 0.3
    assert all(np.isnan(values[2]) for values in (found.expected, found.spread, found.z, found.p))


def test_p_is_uniform_where_edits_are_random_genes_themselves() -> None:
    random = np.random.default_rng(1)
    features, asked = random.normal(size=(400, 2)), random.normal(size=(400, 2))
    mean = 3 * features[:, 0]
    for two_sided in (True, False):
        scores = mean + random.normal(size=400)
        found = compare(3 * asked[:, 0] + random.normal(size=400), asked, scores, features, two_sided=two_sided)
        assert abs((found.p < 0.1).mean() - 0.1) < 0.05 and abs((found.p < 0.5).mean() - 0.5) < 0.08


def test_one_side_is_the_upper_one() -> None:
    random = np.random.default_rng(0)
    features, scores = np.zeros((100, 2)), random.normal(size=100)
    low, high = (compare(np.array([x]), np.zeros((1, 2)), scores, features, two_sided=False).p[0] for x in (-9.0, 9.0))
    assert low == 1.0 and high == 1 / 101


def test_rates_are_those_of_benjamini_and_hochberg() -> None:
    found = false_discovery_rates(np.array([0.01, np.nan, 0.04, 0.03, 0.5]))
    np.testing.assert_allclose(found, [0.04, np.nan, 0.16 / 3, 0.16 / 3, 0.5])
    assert np.isnan(false_discovery_rates(np.array([np.nan]))).all()
