"""A CSR matrix already is a packed batch: the same cells come out of every form of it."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from xtrimogene.data.packed_cells import PackedCells, pack_cells
from xtrimogene.errors import CountsError


@st.composite
def dense_counts(draw: st.DrawFn) -> np.ndarray:
    num_cells, num_genes = draw(st.integers(1, 6)), draw(st.integers(1, 30))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = random.geometric(0.3, (num_cells, num_genes)) * (random.random((num_cells, num_genes)) < 0.3)
    counts[np.arange(num_cells), random.integers(num_genes, size=num_cells)] += 1  # no cell is empty
    return counts.astype(np.float32)


def assert_same(one: PackedCells, other: PackedCells) -> None:
    assert one.segments.lengths == other.segments.lengths
    for entry in fields(PackedCells):
        if entry.name != "segments":
            assert torch.equal(getattr(one, entry.name), getattr(other, entry.name)), entry.name


@given(dense_counts())
def test_csr_csc_and_dense_are_one(dense: np.ndarray) -> None:
    packed = pack_cells(sparse.csr_matrix(dense))
    for form in (
        dense,
        sparse.csc_matrix(dense),
        sparse.csr_array(dense),
        sparse.csc_array(dense),
        dense.astype(np.int64),
    ):
        assert_same(pack_cells(form), packed)


@given(dense_counts())
def test_values_are_log1p_of_counts_per_10000(dense: np.ndarray) -> None:
    packed = pack_cells(sparse.csr_matrix(dense))
    totals = dense.sum(axis=1, dtype=np.float64)
    expected = np.log1p(dense / totals[:, None] * 1e4)
    starts = packed.segments.cu_seqlens.tolist()
    assert packed.num_cells == len(dense) and starts[-1] == len(packed.values)
    for cell, (start, stop) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        (genes,) = dense[cell].nonzero()
        np.testing.assert_array_equal(packed.gene_ids[start:stop], genes)
        np.testing.assert_allclose(packed.values[start:stop], expected[cell, genes], rtol=1e-6)
    np.testing.assert_array_equal(packed.totals, totals)


def test_unsorted_repeated_and_stored_zero_entries_are_put_right() -> None:
    # cell 0: gene 3 twice and gene 1, out of order; cell 1: a stored zero beside gene 2
    messy = sparse.csr_matrix(
        (np.array([2, 1, 3, 0, 4], dtype=np.float32), np.array([3, 1, 3, 0, 2]), np.array([0, 3, 5])), shape=(2, 5)
    )
    before = messy.indices.copy()
    tidy = sparse.csr_matrix(np.array([[0, 1, 0, 5, 0], [0, 0, 4, 0, 0]], dtype=np.float32))
    assert_same(pack_cells(messy), pack_cells(tidy))
    np.testing.assert_array_equal(messy.indices, before)  # the caller's matrix stays as it was


def test_normalized_values_are_taken_as_given() -> None:
    values = np.array([[0, 1.25, 0, 4.5], [2.0, 0, 0, 0]], dtype=np.float32)
    packed = pack_cells(sparse.csr_matrix(values), normalized=True)
    assert packed.values.tolist() == [1.25, 4.5, 2.0]
    assert packed.totals.tolist() == [5.75, 2.0]  # as in the released code


@pytest.mark.parametrize("stored_zero", [False, True])
def test_an_empty_cell_is_named(stored_zero: bool) -> None:
    counts = sparse.csr_matrix(np.array([[1, 0], [2, 3], [1, 1], [0, 4]], dtype=np.float32))
    counts.data[3:5] = 0  # cell 2, stored
    if not stored_zero:
        counts.eliminate_zeros()
    with pytest.raises(CountsError, match="cell 2 of the batch has none"):
        pack_cells(counts)


def test_a_total_beyond_float32_is_exact() -> None:
    counts = sparse.csr_matrix(np.full((1, 3), 2.0**24 + 2, dtype=np.float32))
    assert pack_cells(counts).values[0].item() == pytest.approx(np.log1p(1e4 / 3), rel=1e-6)


def test_measured_genes_default_to_all_and_may_differ_by_panel(make_counts: Callable[..., sparse.csr_matrix]) -> None:
    counts = make_counts(4, 10, 0.5)
    packed = pack_cells(counts)
    assert packed.measured.shape == (1, 10) and bool(packed.measured.all()) and packed.panel.tolist() == [0] * 4
    one = np.arange(10) < 7
    assert pack_cells(counts, measured=one).measured.tolist() == [one.tolist()]
    two = pack_cells(counts, measured=np.stack([one, ~one]), panel=np.array([0, 1, 1, 0]))
    assert two.measured.shape == (2, 10) and two.panel.tolist() == [0, 1, 1, 0]


def test_first_cells_are_the_batch_of_the_first_cells(make_counts: Callable[..., sparse.csr_matrix]) -> None:
    counts = make_counts(5, 20, 0.5)
    assert_same(pack_cells(counts).between(0, 3), pack_cells(counts[:3]))
    assert_same(pack_cells(counts).between(2, 4), pack_cells(counts[2:4]))


def test_no_cells_pack_to_nothing() -> None:
    packed = pack_cells(sparse.csr_matrix((0, 7), dtype=np.float32))
    assert packed.num_cells == 0 and packed.values.numel() == 0 and packed.measured.shape == (1, 7)
