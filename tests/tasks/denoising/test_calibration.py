import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.tasks.denoising.calibration import FARTHEST, Calibration

NUM_CELLS, NUM_GENES = 400, 30


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(2.0, 0.5, (NUM_CELLS, NUM_GENES)).astype(np.float32)


def draw(values: np.ndarray, slope: float | np.ndarray, seed: int = 1) -> tuple[np.ndarray, csr_matrix]:
    """Return true shares, log-linear in the values with an offset of each gene's own, and counts."""
    generator = np.random.default_rng(seed)
    shares = np.exp(slope * values + generator.normal(0, 1, NUM_GENES))
    shares /= shares.sum(axis=1, keepdims=True)
    totals = generator.integers(500, 5_000, NUM_CELLS)[:, None]
    return shares, csr_matrix(generator.poisson(totals * shares).astype(np.float32))


def fit(values: np.ndarray, counts: csr_matrix) -> Calibration:
    return Calibration.fit(values, counts).to_mean(values, counts)


@pytest.mark.parametrize("scale", [1.0, 0.01, 300.0])
def test_finds_shares_whatever_the_scale_of_the_values(values: np.ndarray, scale: float) -> None:
    shares, counts = draw(values, 0.5)
    found = fit(scale * values, counts)
    np.testing.assert_allclose(np.median(found.slope) * scale, 0.5, atol=0.05)
    error = np.abs(np.log(found.shares(scale * values)) - np.log(shares))
    assert np.median(error) < 0.05


def test_values_that_say_nothing_leave_the_gene_mean(values: np.ndarray) -> None:
    _, counts = draw(values, 0.0)
    found = fit(values, counts)
    assert np.abs(found.slope).max() < 0.1
    mean = np.asarray(counts.sum(axis=0)).ravel() / counts.sum()
    assert np.abs(np.log(found.shares(values)) - np.log(mean)).max() < 0.25


def test_expected_molecules_are_those_counted(values: np.ndarray) -> None:
    _, counts = draw(values, 0.5)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    expected = totals @ fit(values, counts).shares(values)
    np.testing.assert_allclose(expected, np.asarray(counts.sum(axis=0)).ravel(), rtol=0.1, atol=5)


def test_a_gene_never_seen_is_possible(values: np.ndarray) -> None:
    _, counts = draw(values, 0.5)
    silent = counts.toarray()
    silent[:, 3] = 0
    shares = fit(values, csr_matrix(silent)).shares(values)
    assert (shares > 0).all() and shares[:, 3].max() < 0.01


def test_no_value_takes_a_gene_far_from_its_mean(values: np.ndarray) -> None:
    _, counts = draw(values, 3.0)
    found = fit(values, counts)
    ordinary, far = found.center[None], found.center[None].copy()
    far[0, 3] += 50
    odds = [shares[0, 3] / (1 - shares[0, 3]) for shares in (found.shares(far), found.shares(ordinary))]
    np.testing.assert_allclose(np.log(odds[0] / odds[1]), FARTHEST, atol=1e-3)
