import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.tasks.denoising.neighbors import Neighbors
from xtrimogene.tasks.denoising.smoothing import Smoothing

NEXT = Smoothing(num_neighbors=3, num_steps=1)


@pytest.fixture
def kinds() -> csr_matrix:
    """Sixty cells; even and odd ones have other genes."""
    generator = np.random.default_rng(0)
    shares = generator.dirichlet(0.3 * np.ones(80), 2)[np.arange(60) % 2]
    return csr_matrix(generator.poisson(150 * shares).astype(np.float32))


def test_a_step_leads_to_others_of_the_same_kind(kinds: csr_matrix) -> None:
    weights = Neighbors.fit(kinds).step(kinds, 3).toarray()
    assert (np.diag(weights) == 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert ((weights > 0).sum(axis=1) == 9).all()  # three times the neighbours have a weight
    assert weights[::2, 1::2].sum() == 0 and weights[1::2, ::2].sum() == 0


def test_a_cell_that_is_not_kept_has_the_same_neighbours(kinds: csr_matrix) -> None:
    neighbors = Neighbors.fit(kinds)
    without = Neighbors(counts=kinds[1:], axes=neighbors.axes, places=neighbors.places[1:], keys=neighbors.keys[1:])
    found = without.step(kinds[:1], 3).toarray()
    np.testing.assert_allclose(found, neighbors.step(kinds[:1], 3).toarray()[:, 1:], atol=1e-6)


def test_a_cell_alone_reaches_what_it_reaches_among_others(kinds: csr_matrix) -> None:
    neighbors, how = Neighbors.fit(kinds), Smoothing(num_neighbors=3, num_steps=2)
    walk = neighbors.step(kinds, 3)
    together = neighbors.reached(kinds, how, walk).toarray()
    np.testing.assert_allclose(neighbors.reached(kinds[[7]], how, walk).toarray(), together[[7]], atol=1e-5)
    np.testing.assert_allclose(together, _scaled(walk.toarray() @ walk.toarray()), atol=1e-6)


def _scaled(weights: np.ndarray) -> np.ndarray:
    return weights / (weights**2).sum(axis=1, keepdims=True)


def test_equal_weights_stand_for_as_many_cells(kinds: csr_matrix) -> None:
    neighbors = Neighbors.fit(kinds)
    reached = neighbors.reached(kinds, NEXT, neighbors.step(kinds, 3)).toarray()
    assert (reached.sum(axis=1) > 3).all() and (reached.sum(axis=1) <= 9 + 1e-6).all()


def test_cells_that_are_all_the_same_have_no_neighbours() -> None:
    same = csr_matrix(np.tile(np.arange(1, 31, dtype=np.float32), (25, 1)))
    other = csr_matrix(np.random.default_rng(0).poisson(4, (3, 30)).astype(np.float32))
    neighbors = Neighbors.fit(csr_matrix(np.concatenate([same.toarray(), other.toarray()])))
    alone = Neighbors(counts=same, axes=neighbors.axes, places=neighbors.places[:25], keys=neighbors.keys[:25])
    assert alone.reached(same, NEXT, alone.step(same, 3)).nnz == 0
