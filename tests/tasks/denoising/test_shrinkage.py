import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from xtrimogene.tasks.denoising.molecules import split_molecules
from xtrimogene.tasks.denoising.shrinkage import STRENGTHS, choose_strength, shrink


def test_by_hand() -> None:
    counts = csr_matrix(np.array([[4.0, 0.0]], dtype=np.float32))
    prior = np.array([[0.5, 0.5]])
    shares = np.array([(4 + 2) / (4 + 4), 2 / (4 + 4)])  # strength 2
    np.testing.assert_allclose(shrink(counts, prior, 2.0)[0], shares / shares.sum(), rtol=1e-6)


@given(strength=st.sampled_from(STRENGTHS), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_shares_add_up_and_lie_between_prior_and_counts(strength: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    prior = generator.dirichlet(np.ones(12), 5)
    counts = csr_matrix(generator.poisson(60 * prior).astype(np.float32))
    shares = shrink(counts, prior, strength)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    assert (shares > 0).all()


def test_many_molecules_are_believed() -> None:
    counts = csr_matrix(np.array([[3e6, 1e6]], dtype=np.float32))
    np.testing.assert_allclose(shrink(counts, np.array([[0.1, 0.9]]), 10.0), [[0.75, 0.25]], atol=1e-3)


def test_the_strength_is_that_of_the_cells() -> None:
    generator, prior = np.random.default_rng(0), np.full((300, 50), 1 / 50)
    for shape in (1.0, 10.0, 100.0):
        shares = generator.gamma(shape, prior / shape)
        counts = csr_matrix(generator.poisson(2_000 * shares).astype(np.float32))
        seen, held_out = split_molecules(counts, 0.5, generator)
        assert choose_strength(seen, held_out, prior) == shape


def test_cells_that_are_read_to_the_end_are_believed_more_than_any_mean() -> None:
    """Reads of few molecules: what is absent stays absent however deeply the cell is read."""
    generator = np.random.default_rng(0)
    truth = generator.gamma(1.0, size=(40, 300)) * (generator.random((40, 300)) < 0.2)
    counts = csr_matrix(generator.poisson(100_000 * truth / truth.sum(axis=1, keepdims=True)).astype(np.float32))
    seen, held_out = split_molecules(counts, 0.75, generator)
    assert choose_strength(seen, held_out, np.full((40, 300), 1 / 300)) < 0.1
