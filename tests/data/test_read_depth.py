"""T, S and the thinning that gives them a meaning."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from xtrimogene.config import ReadDepthConfig
from xtrimogene.data.read_depth import ReadDepth, downsample_counts, thin_counts
from xtrimogene.errors import ConfigError, CountsError


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("t4", "t", 4.0),
        ("t4.5", "t", 4.5),
        ("f1", "f", 1.0),
        ("f0.5", "f", 0.5),
        ("a0", "a", 0.0),
        ("a10.25", "a", 10.25),
    ],
)
def test_parse(text: str, kind: str, amount: float) -> None:
    assert ReadDepth.parse(text) == ReadDepth(kind, amount)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "4", "t", "x4", "T4", "t-4", "t4 ", " t4", "t4.", "t.5", "t1e3", "tnan", "a-1", "t4\n", "t４x"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not one of t, f, a followed by a number"):
        ReadDepth.parse(text)


@pytest.mark.parametrize("text", ["t0", "f0", "f0.0"])
def test_an_amount_of_zero_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        ReadDepth.parse(text)


@pytest.mark.parametrize(
    ("text", "target"),
    [("t4.5", [4.5, 4.5]), ("f1", [2.0, 3.0]), ("f10", [3.0, 4.0]), ("a0.5", [2.5, 3.5]), ("a0", [2.0, 3.0])],
)
def test_tokens(text: str, target: list[float]) -> None:
    got_target, got_source = ReadDepth.parse(text).tokens(torch.tensor([100.0, 1000.0]))
    torch.testing.assert_close(got_target, torch.tensor(target))
    torch.testing.assert_close(got_source, torch.tensor([2.0, 3.0]))


@pytest.mark.parametrize("total", [1.0, 0.5, 0.0])
def test_a_cell_without_depth_is_named(total: float) -> None:
    with pytest.raises(CountsError, match=r"Cell 1 has .* counts .*more than 1 is needed"):
        ReadDepth.parse("f1").tokens(torch.tensor([5.0, total]))


@pytest.mark.parametrize("text", ["f0.01", "t13", "a11", "t400"])
def test_a_depth_that_no_cell_has_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"read_depth='{text}' asks for T = .*above 0 and at most at 12"):
        ReadDepth.parse(text).tokens(torch.tensor([5.0, 100.0]))


def test_empty_cells_are_left_empty_by_thinning() -> None:
    counts = sparse.csr_matrix(np.array([[0, 0], [3, 0], [0, 0], [0, 1], [0, 0]], dtype=np.float32))
    thinned = downsample_counts(counts, ReadDepthConfig(unchanged_probability=0.0), np.random.default_rng(0))
    assert (thinned.getnnz(axis=1) == [0, 1, 0, 1, 0]).all()


def counts_of(num_cells: int, num_genes: int, seed: int, mean: float = 2.0) -> sparse.csr_matrix:
    random = np.random.default_rng(seed)
    counts = random.poisson(mean, (num_cells, num_genes))
    counts[:, 0] += 1
    return sparse.csr_matrix(counts.astype(np.float32))


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0.05, 5))
def test_thinning_only_takes_molecules_away_and_never_the_last(seed: int, unchanged: float, beta: float) -> None:
    counts = counts_of(5, 8, seed, mean=0.3)
    config = ReadDepthConfig(unchanged_probability=unchanged, beta_a=beta, beta_b=5.0)
    thinned = downsample_counts(counts, config, np.random.default_rng(seed))
    before, after = counts.toarray(), thinned.toarray()
    assert (after <= before).all() and (after >= 0).all() and (after == np.round(after)).all()
    assert (after.sum(axis=1) >= 1).all()
    assert thinned.data.all() and thinned.has_sorted_indices and thinned.dtype == np.float32


def test_half_of_the_cells_stay_and_the_rest_follow_the_beta() -> None:
    counts = counts_of(2000, 60, 0, mean=20)
    before = counts.toarray().copy()
    thinned = downsample_counts(counts, ReadDepthConfig(), np.random.default_rng(1)).toarray()
    np.testing.assert_array_equal(counts.toarray(), before)  # the caller's matrix stays as it was
    unchanged = (thinned == before).all(axis=1)
    assert abs(unchanged.mean() - 0.5) < 5 * math.sqrt(0.25 / 2000)
    rates = thinned.sum(axis=1)[~unchanged] / before.sum(axis=1)[~unchanged]
    assert abs(rates.mean() - 0.5) < 0.03  # Beta(2, 2): mean 1/2, variance 1/20
    assert abs(rates.var() - 0.05) < 0.01


def test_thinning_is_binomial_inside_a_cell() -> None:
    counts = sparse.csr_matrix(np.full((1, 4000), 10, dtype=np.float32))
    config = ReadDepthConfig(unchanged_probability=0.0, beta_a=5000.0, beta_b=5000.0)  # a rate of one half
    kept = downsample_counts(counts, config, np.random.default_rng(0)).toarray()
    assert abs(kept.mean() - 5.0) < 0.2
    assert abs(kept.var() - 2.5) < 0.3


def test_all_cells_are_thinned_at_one_rate() -> None:
    counts = counts_of(200, 60, 0, mean=20)
    assert (thin_counts(counts, 1.0, np.random.default_rng(0)) != counts).nnz == 0
    kept = thin_counts(counts, 0.3, np.random.default_rng(0)).toarray().sum(axis=1) / counts.toarray().sum(axis=1)
    assert abs(kept.mean() - 0.3) < 0.005 and kept.std() < 0.03  # of about 1,200 molecules a cell


def test_genes_are_caught_at_rates_of_their_own_in_thinned_cells_alone() -> None:
    counts = sparse.csr_matrix(np.full((400, 200), 1000, dtype=np.float32))
    config = ReadDepthConfig(beta_a=5000.0, beta_b=5000.0, gene_spread=1.0)  # a cell's rate: one half
    kept = downsample_counts(counts, config, np.random.default_rng(0)).toarray() / 1000
    unchanged = (kept == 1).all(axis=1)
    assert abs(unchanged.mean() - 0.5) < 5 * math.sqrt(0.25 / 400)
    log_rates = np.log(2 * kept[~unchanged])
    assert abs((log_rates > -0.1).mean() - 0.5398) < 0.01  # half of the genes lose nothing, 4 % less than a tenth
    low = log_rates[log_rates < -1]
    assert abs(len(low) / log_rates.size - 0.1587) < 0.01  # the normal's share beyond one deviation
    assert abs(np.corrcoef(log_rates)[0, 1]) < 0.3  # another draw for each cell


def test_thinning_is_a_function_of_its_generator() -> None:
    counts = counts_of(20, 30, 0)
    one, same, other = (downsample_counts(counts, ReadDepthConfig(), np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (one != same).nnz == 0 and (one != other).nnz > 0
