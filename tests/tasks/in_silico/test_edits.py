"""What an edit makes of counts, worked by hand and as properties."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from xtrimogene.errors import ConfigError
from xtrimogene.tasks.in_silico.edits import Edit, EditableCells, Level

COUNTS = np.array([[3, 0, 7, 0], [0, 5, 5, 0], [1, 1, 0, 8], [9, 0, 0, 1]], dtype=np.float32)


def cells() -> EditableCells:
    return EditableCells(csr_matrix(COUNTS))


def test_a_knock_out_takes_a_gene_from_the_cells_that_have_it() -> None:
    rows, edited, strength = cells().edited(Edit(kind="knock-out", genes=(2,)), Level.parse("q0.95"))
    np.testing.assert_array_equal(rows, [0, 1])
    np.testing.assert_array_equal(edited.toarray(), [[3, 0, 0, 0], [0, 5, 0, 0]])
    np.testing.assert_allclose(strength, np.log1p([7000, 5000]))


def test_a_combination_changes_cells_that_have_any_of_its_genes() -> None:
    rows, edited, strength = cells().edited(Edit(kind="knock-out", genes=(1, 3)), Level.parse("q0.95"))
    np.testing.assert_array_equal(rows, [1, 3])  # the third cell would keep one count, which no model reads
    np.testing.assert_array_equal(edited.toarray(), [[0, 0, 5, 0], [9, 0, 0, 0]])
    np.testing.assert_allclose(strength, np.log1p([5000, 1000]))


def test_over_expression_gives_the_share_that_was_asked_for() -> None:
    counts = np.array([[90, 10, 0], [900, 100, 0], [0, 99, 1]], dtype=np.float32)
    rows, edited, strength = EditableCells(csr_matrix(counts)).edited(
        Edit(kind="over-expression", genes=(2,)), Level.parse("c5000")
    )
    np.testing.assert_array_equal(rows, [0, 1, 2])
    np.testing.assert_array_equal(edited.toarray(), [[90, 10, 100], [900, 100, 1000], [0, 99, 99]])
    np.testing.assert_allclose(strength, np.log1p(5000) - np.log1p([0, 0, 100]), rtol=1e-6)


def test_a_fold_multiplies_where_there_is_something() -> None:
    rows, edited, _ = cells().edited(Edit(kind="over-expression", genes=(0,)), Level.parse("f2.5"))
    np.testing.assert_array_equal(rows, [0, 2, 3])
    np.testing.assert_array_equal(edited.toarray()[:, 0], [8, 2, 22])  # 7.5, 2.5 and 22.5, rounded to even


def test_a_quantile_is_that_of_cells_that_express_the_gene() -> None:
    counts = np.array([[8, 2], [6, 4], [10, 0]], dtype=np.float32)
    own = EditableCells(csr_matrix(counts))
    assert own.share(1, 0.5) == pytest.approx(0.3)
    rows, edited, _ = own.edited(Edit(kind="over-expression", genes=(1,)), Level.parse("q0.5"))
    np.testing.assert_array_equal(rows, [0, 2])  # the second has more already
    np.testing.assert_array_equal(edited.toarray(), [[8, 3], [10, 4]])  # 8 x .3 / .7 = 3.43, 10 x .3 / .7 = 4.29


def test_levels_may_be_those_of_other_cells() -> None:
    own = EditableCells(csr_matrix(np.array([[10, 0]], dtype=np.float32)), csr_matrix([[5.0, 5.0]]).astype(np.float32))
    _, edited, _ = own.edited(Edit(kind="over-expression", genes=(1,)), Level.parse("q1"))
    np.testing.assert_array_equal(edited.toarray(), [[10, 10]])


def test_an_over_expressed_gene_has_at_least_one_count() -> None:
    own = EditableCells(csr_matrix(np.array([[20, 0]], dtype=np.float32)))
    _, edited, _ = own.edited(Edit(kind="over-expression", genes=(1,)), Level.parse("c1"))
    np.testing.assert_array_equal(edited.toarray(), [[20, 1]])


@given(
    seed=st.integers(0, 10_000),
    num_genes=st.integers(1, 3),
    knock_out=st.booleans(),
    level=st.sampled_from(["q0.9", "f3", "c40"]),
)
def test_nothing_else_changes(
    make_counts: Callable[..., csr_matrix], seed: int, num_genes: int, knock_out: bool, level: str
) -> None:
    counts = make_counts(12, 30, 0.3, seed)
    before = counts.toarray()
    genes = tuple(sorted(np.random.default_rng(seed).choice(30, num_genes, replace=False).tolist()))
    edit = Edit(kind="knock-out" if knock_out else "over-expression", genes=genes)
    rows, edited, strength = EditableCells(counts).edited(edit, Level.parse(level))
    after, others = edited.toarray(), np.setdiff1d(np.arange(30), genes)
    np.testing.assert_array_equal(counts.toarray(), before)
    np.testing.assert_array_equal(after[:, others], before[rows][:, others])
    assert edited.has_canonical_format and edited.data.all() and edited.dtype == np.float32
    assert (after != before[rows]).any(axis=1).all() and (strength > 0).all() and (after.sum(axis=1) > 1).all()
    if knock_out:
        assert not after[:, list(genes)].any()
        left_alone = np.setdiff1d(np.arange(12), rows)
        left = before[left_alone]
        assert (~left[:, list(genes)].any(axis=1) | (left[:, others].sum(axis=1) <= 1)).all()
    else:
        assert (after[:, list(genes)] >= before[rows][:, list(genes)]).all()
        np.testing.assert_array_equal(after, np.rint(after))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.95", "is not one of q, f, c followed by a number"),
        ("q1.2", "above 0 and at most 1"),
        ("f1", "above 1"),
        ("c6000", "at most 5000"),
    ],
)
def test_levels_that_mean_nothing_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Level.parse(text)
