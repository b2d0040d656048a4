import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from xtrimogene.errors import ConfigError
from xtrimogene.tasks.denoising.molecules import log_loss, split_molecules, squared_error, with_some_mean


@given(rate=st.floats(0.05, 0.95), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_the_parts_are_whole_numbers_and_add_up(rate: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    counts = csr_matrix(generator.poisson(1.0, (6, 30)).astype(np.float32))
    seen, held_out = split_molecules(counts, rate, generator)
    assert (seen + held_out - counts).nnz == 0
    for part in (seen, held_out):
        assert (part.data > 0).all() and (part.data == np.rint(part.data)).all()


def test_the_parts_are_independent() -> None:
    counts = csr_matrix(np.random.default_rng(0).poisson(4.0, (200, 200)).astype(np.float32))
    seen, held_out = split_molecules(counts, 0.5, np.random.default_rng(1))
    correlation = np.corrcoef(seen.toarray().ravel(), held_out.toarray().ravel())[0, 1]
    assert abs(correlation) < 0.02


def test_a_rate_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        split_molecules(csr_matrix((2, 2), dtype=np.float32), 1.0, np.random.default_rng(0))


def test_log_loss_by_hand() -> None:
    held_out = csr_matrix(np.array([[3.0, 1.0], [0.0, 2.0], [0.0, 0.0]], dtype=np.float32))
    shares = np.array([[1.0, 1.0], [3.0, 1.0], [0.5, 0.5]])
    losses = log_loss(held_out, shares)
    np.testing.assert_allclose(losses[:2], [np.log(2), np.log(4)])
    assert np.isnan(losses[2])


def test_no_shares_are_better_than_the_true_ones() -> None:
    truth = np.random.default_rng(0).dirichlet(np.ones(20), 1).repeat(400, axis=0)
    held_out = csr_matrix(np.random.default_rng(1).multinomial(200, truth[0], 400).astype(np.float32))
    for wrong in (np.full_like(truth, 0.05), truth[:, ::-1], truth**1.3):
        assert np.mean(log_loss(held_out, wrong)) > np.mean(log_loss(held_out, truth))


def test_squared_error_by_hand() -> None:
    held_out = csr_matrix(np.array([[1.0, 3.0]], dtype=np.float32))
    wanted = ((np.log1p(2500) - np.log1p(5000)) ** 2 + (np.log1p(7500) - np.log1p(5000)) ** 2) / 2
    np.testing.assert_allclose(squared_error(held_out, np.array([[2.0, 2.0]])), [wanted])


def test_some_of_the_mean_is_mixed_in() -> None:
    mean = np.array([0.25, 0.75])
    np.testing.assert_allclose(
        with_some_mean(np.array([[2.0, 0.0], [0.0, 0.0]]), mean), [[0.9925, 0.0075], [0.25, 0.75]]
    )
