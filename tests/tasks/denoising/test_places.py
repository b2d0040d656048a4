import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.neighbors import NearestNeighbors

from xtrimogene.tasks.denoising.places import RootPca


@pytest.fixture(scope="module")
def thin() -> tuple[csr_matrix, np.ndarray]:
    """Two kinds that differ in 30 common genes, read to 80 molecules, half of which are of 3,000 rare genes."""
    generator = np.random.default_rng(0)
    kind = np.arange(400) % 2
    common = generator.dirichlet(np.full(30, 2.0), 2)
    shares = np.concatenate([0.5 * common, np.full((2, 3_000), 0.5 / 3_000)], axis=1)[kind]
    return csr_matrix(generator.poisson(80 * shares).astype(np.float32)), kind


def test_thin_cells_lie_by_their_common_genes(thin: tuple[csr_matrix, np.ndarray]) -> None:
    counts, kind = thin
    axes = RootPca.fit(counts)
    assert set(range(30)) <= set(axes.genes.tolist())
    placed = axes.transform(counts)
    assert placed.shape == (400, 15)
    nearest = NearestNeighbors(n_neighbors=6).fit(placed).kneighbors(placed, return_distance=False)[:, 1:]
    assert (kind[nearest] == kind[:, None]).mean() > 0.95


def test_a_cell_lies_where_it_lay_among_others_whatever_its_depth(thin: tuple[csr_matrix, np.ndarray]) -> None:
    counts, _ = thin
    axes = RootPca.fit(counts)
    placed = axes.transform(counts)
    np.testing.assert_allclose(axes.transform(counts[[7]]), placed[[7]], atol=1e-4)
    np.testing.assert_allclose(axes.transform(3 * counts), placed, atol=1e-4)


def test_a_cell_without_counts_has_a_place(thin: tuple[csr_matrix, np.ndarray]) -> None:
    counts, _ = thin
    assert np.isfinite(RootPca.fit(counts).transform(csr_matrix((1, counts.shape[1]), dtype=np.float32))).all()
