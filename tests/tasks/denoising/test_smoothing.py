import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.tasks.denoising.molecules import log_loss, split_molecules, with_some_mean
from xtrimogene.tasks.denoising.smoothing import Smoothing, choose_smoothing, smooth


@pytest.fixture
def kinds() -> tuple[np.ndarray, csr_matrix]:
    generator = np.random.default_rng(0)
    shares = generator.dirichlet(0.3 * np.ones(80), 2)[np.arange(60) % 2]
    return shares, csr_matrix(generator.poisson(150 * shares).astype(np.float32))


def test_neighbours_are_of_the_same_kind(kinds: tuple[np.ndarray, csr_matrix]) -> None:
    shares, counts = kinds
    smoothed = smooth(counts, Smoothing(num_neighbors=5, num_steps=2))
    np.testing.assert_allclose(smoothed.sum(axis=1), 1, rtol=1e-5)
    own = counts.toarray() / counts.sum(axis=1)
    assert np.abs(smoothed - shares).mean() < 0.5 * np.abs(own - shares).mean()


def test_what_is_chosen_tells_held_out_molecules_better_than_the_counts(kinds: tuple[np.ndarray, csr_matrix]) -> None:
    _, counts = kinds
    seen, held_out = split_molecules(counts, 0.5, np.random.default_rng(1))
    how = choose_smoothing(seen, held_out)
    mean = np.asarray(counts.sum(axis=0)).ravel() / counts.sum()
    smoothed, own = (with_some_mean(one, mean) for one in (smooth(seen, how), seen.toarray()))
    assert log_loss(held_out, smoothed).mean() < log_loss(held_out, own).mean()
