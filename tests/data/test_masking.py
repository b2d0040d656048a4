"""What is hidden of a cell, what is shown in its place, and what is asked back."""

from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from xtrimogene.config import MaskingConfig
from xtrimogene.data.masking import MaskedCells, mask_cells


class Batch(NamedTuple):
    """Inputs are thinned from raw; genes that a cell's panel lacks are zero in both."""

    inputs: sparse.csr_matrix
    raw: sparse.csr_matrix
    measured: np.ndarray
    panel: np.ndarray

    def mask(self, config: MaskingConfig, seed: int = 0) -> MaskedCells:
        generator = np.random.default_rng(seed)
        return mask_cells(self.inputs, self.raw, config, generator, measured=self.measured, panel=self.panel)


def make_batch(num_cells: int, num_genes: int, density: float, seed: int, *, all_measured: bool = False) -> Batch:
    random = np.random.default_rng(seed)
    measured = random.random((2, num_genes)) < 0.8
    measured |= all_measured
    measured[:, 0] = True
    panel = random.integers(2, size=num_cells)
    raw = random.geometric(0.3, (num_cells, num_genes)) * (random.random((num_cells, num_genes)) < density)
    raw[:, 0] += 2
    raw *= measured[panel]
    inputs = random.binomial(raw, 0.6)
    inputs[:, 0] = 1
    return Batch(*(sparse.csr_matrix(counts.astype(np.float32)) for counts in (inputs, raw)), measured, panel)


batches = st.builds(
    make_batch,
    num_cells=st.integers(1, 6),
    num_genes=st.integers(1, 60),
    density=st.sampled_from([0.02, 0.3, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
fractions = st.sampled_from([0.0, 0.03, 0.3, 0.9])
configs = st.builds(
    MaskingConfig,
    nonzero_fraction=fractions,
    zero_fraction=st.sampled_from([0.0, 0.03, 0.5, 1.0]),
    replace_fraction=st.sampled_from([0.0, 0.5, 0.8]),
    random_fraction=st.sampled_from([0.0, 0.1, 0.2]),
    max_visible=st.sampled_from([None, 1, 5]),
)


def cell_sets(batch: MaskedCells) -> list[tuple[list[int], list[int]]]:
    """Visible and hidden genes, cell by cell."""
    visible = torch.split(batch.visible.gene_ids, list(batch.visible.segments.lengths))
    hidden = torch.split(batch.hidden.gene_ids, list(batch.hidden.segments.lengths))
    return [(seen.tolist(), unseen.tolist()) for seen, unseen in zip(visible, hidden, strict=True)]


@given(batches, configs, st.integers(0, 2**32 - 1))
def test_each_gene_is_visible_or_hidden_and_only_measured_ones_are(
    batch: Batch, config: MaskingConfig, seed: int
) -> None:
    masked = batch.mask(config, seed)
    for cell, (visible, hidden) in enumerate(cell_sets(masked)):
        expressed = set(batch.inputs[cell].indices.tolist())
        measured = set(batch.measured[batch.panel[cell]].nonzero()[0].tolist())
        assert not set(visible) & set(hidden)
        assert set(visible) <= expressed <= set(visible) | set(hidden)
        assert set(hidden) <= measured
        assert hidden == sorted(set(hidden)) and visible == sorted(set(visible))
        assert 1 <= len(visible) <= (config.max_visible or len(expressed))


@given(batches, configs, st.integers(0, 2**32 - 1))
def test_targets_are_the_raw_cells_values(batch: Batch, config: MaskingConfig, seed: int) -> None:
    masked = batch.mask(config, seed)
    dense = batch.raw.toarray()
    values = np.log1p(dense / dense.sum(axis=1, keepdims=True, dtype=np.float64) * 1e4)
    expected = [values[cell, hidden] for cell, (_, hidden) in enumerate(cell_sets(masked))]
    np.testing.assert_allclose(masked.targets, np.concatenate(expected), rtol=1e-6)
    np.testing.assert_array_equal(masked.raw.totals, dense.sum(axis=1))
    assert masked.raw.gene_ids.tolist() == batch.raw.indices.tolist()
    np.testing.assert_array_equal(masked.visible.totals, batch.inputs.toarray().sum(axis=1))


@given(batches, configs, st.integers(0, 2**32 - 1))
def test_visible_values_are_those_of_the_whole_input(batch: Batch, config: MaskingConfig, seed: int) -> None:
    masked = batch.mask(config, seed)
    dense = batch.inputs.toarray()
    values = np.log1p(dense / dense.sum(axis=1, keepdims=True, dtype=np.float64) * 1e4)
    expected = [values[cell, visible] for cell, (visible, _) in enumerate(cell_sets(masked))]
    np.testing.assert_allclose(masked.visible.values, np.concatenate(expected), rtol=1e-6)


@given(batches, configs, st.integers(0, 2**32 - 1))
def test_a_batch_is_a_function_of_its_generator(batch: Batch, config: MaskingConfig, seed: int) -> None:
    one, same = batch.mask(config, seed), batch.mask(config, seed)
    assert one.hidden.segments.lengths == same.hidden.segments.lengths
    for part in ("visible", "hidden"):
        for entry in fields(getattr(one, part)):
            if entry.name != "segments":
                a, b = getattr(getattr(one, part), entry.name), getattr(getattr(same, part), entry.name)
                assert torch.equal(torch.nan_to_num(a.float(), nan=-1), torch.nan_to_num(b.float(), nan=-1))


def test_another_seed_hides_other_genes() -> None:
    batch = make_batch(4, 200, 0.5, 0)
    one, other = batch.mask(MaskingConfig(), 0), batch.mask(MaskingConfig(), 1)
    assert cell_sets(one) != cell_sets(other)


def assert_share(hits: float, trials: float, probability: float) -> None:
    """Within five standard errors."""
    spread = 5 * (trials * probability * (1 - probability)) ** 0.5
    assert abs(hits - trials * probability) <= spread, f"{hits} of {trials}, wanted {probability}"


@pytest.mark.parametrize(("nonzero", "zero"), [(0.3, 0.03), (0.15, 0.5), (0.6, 0.001)])
def test_strata_are_hidden_in_their_fractions(nonzero: float, zero: float) -> None:
    batch = make_batch(200, 1000, 0.1, 3)
    masked = batch.mask(MaskingConfig(nonzero_fraction=nonzero, zero_fraction=zero))
    is_expressed = batch.inputs.toarray() > 0
    cells = np.repeat(np.arange(200), masked.hidden.segments.lengths)
    hidden = np.zeros(is_expressed.shape, dtype=bool)
    hidden[cells, masked.hidden.gene_ids] = True
    assert_share((hidden & is_expressed).sum(), is_expressed.sum(), nonzero)
    assert_share((hidden & ~is_expressed).sum(), (~is_expressed & batch.measured[batch.panel]).sum(), zero)


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_each_zero_is_hidden_with_the_same_probability(fraction: float) -> None:
    # gaps between hits are drawn: the first and the last position of the batch must not be special
    counts = sparse.csr_matrix(np.array([[0, 1, 0, 0], [0, 0, 2, 0]], dtype=np.float32))
    measured = np.array([[True, True, True, False]])
    batch = Batch(counts, counts, measured, np.zeros(2, dtype=np.int64))
    config = MaskingConfig(nonzero_fraction=0.0, zero_fraction=fraction)
    generator, repeats = np.random.default_rng(0), 600
    hits = np.zeros((2, 4))
    for _ in range(repeats):
        masked = mask_cells(batch.inputs, batch.raw, config, generator, measured=measured, panel=batch.panel)
        hits[np.repeat([0, 1], masked.hidden.segments.lengths), masked.hidden.gene_ids] += 1
    assert hits[0, 1] == hits[1, 2] == 0  # expressed
    assert hits[0, 3] == hits[1, 3] == 0  # not measured
    for cell, gene in [(0, 0), (0, 2), (1, 0), (1, 1)]:
        assert_share(hits[cell, gene], repeats, fraction)


def test_what_is_shown_of_a_hidden_gene() -> None:
    batch = make_batch(300, 400, 0.3, 5)
    config = MaskingConfig(nonzero_fraction=0.3, zero_fraction=0.3, replace_fraction=0.7, random_fraction=0.2)
    masked = batch.mask(config)
    dense = batch.inputs.toarray()
    values = np.log1p(dense / dense.sum(axis=1, keepdims=True) * 1e4)
    cells = np.repeat(np.arange(300), masked.hidden.segments.lengths)
    shown, true = masked.hidden.shown.numpy(), values[cells, masked.hidden.gene_ids]
    for stratum in (true == 0, true > 0):
        assert_share(np.isnan(shown[stratum]).sum(), stratum.sum(), 0.7)
    zeros = true == 0
    assert_share((shown[zeros] == 0).sum(), zeros.sum(), 0.1)  # the true value
    assert_share((shown[zeros] > 0).sum(), zeros.sum(), 0.2)  # a random non-zero one
    for cell in range(20):
        seen = shown[cells == cell]
        distance = np.abs(seen[seen > 0][:, None] - values[cell][None]).min(axis=1, initial=0)
        assert (distance < 1e-5).all(), "a random value comes from the same cell"


def test_only_the_surplus_is_hidden_beyond_the_largest_visible_number() -> None:
    batch = make_batch(50, 300, 0.5, 7)
    config = MaskingConfig(nonzero_fraction=0.0, zero_fraction=0.0, max_visible=40)
    visible = batch.mask(config).visible.segments.lengths
    expressed = np.diff(batch.inputs.indptr)
    assert visible == tuple(np.minimum(expressed, 40))
    with_fraction = batch.mask(replace(config, nonzero_fraction=0.9)).visible.segments.lengths
    assert max(with_fraction) < 40  # a tenth of some 120


def test_a_cell_with_one_gene_keeps_it() -> None:
    counts = sparse.csr_matrix(np.array([[0, 3, 0]], dtype=np.float32))
    batch = Batch(counts, counts, np.ones((1, 3), dtype=bool), np.zeros(1, dtype=np.int64))
    for seed in range(20):
        assert batch.mask(MaskingConfig(nonzero_fraction=0.99), seed).visible.gene_ids.tolist() == [1]


def test_first_and_to_keep_the_hidden_genes_together() -> None:
    masked = make_batch(4, 100, 0.3, 1).mask(MaskingConfig())
    first = masked.hidden.between(0, 2).to("cpu")
    num_rows = sum(masked.hidden.segments.lengths[:2])
    assert first.segments.lengths == masked.hidden.segments.lengths[:2]
    assert torch.equal(first.gene_ids, masked.hidden.gene_ids[:num_rows])
    assert len(first.shown) == num_rows
    assert torch.equal(masked.to("cpu").targets, masked.targets)
