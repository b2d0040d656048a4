from typing import Any

import numpy as np
import pytest

from xtrimogene.errors import GeneMatchError
from xtrimogene.evaluation.baselines import HvgPca
from xtrimogene.tasks.expression_space import ExpressionSpace


def test_with_all_genes_measured_it_is_hvg_and_pca(reference: Any, draw_kinds: Any) -> None:
    space = ExpressionSpace.fit(reference.counts, reference.read)
    pca, asked = HvgPca.fit(reference.counts[:, :40]), draw_kinds({"T cell": 9}, seed=4).counts
    np.testing.assert_allclose(space.place(asked, reference.read), pca.transform(asked[:, :40]), atol=1e-5)
    assert space.share.sum() == pytest.approx(1) and (space.share[40:] == 0).all()


def test_counts_of_genes_that_were_not_read_change_nothing(reference: Any) -> None:
    more = reference.counts.tolil(copy=True)
    more[:, 40:] = 1000
    space = ExpressionSpace.fit(reference.counts, reference.read)
    np.testing.assert_array_equal(space.components, ExpressionSpace.fit(more.tocsr(), reference.read).components)
    everything = np.ones(45, dtype=bool)
    np.testing.assert_array_equal(space.place(more.tocsr(), everything), space.place(reference.counts, reference.read))


def test_genes_that_are_missing_move_no_cell_far(draw_kinds: Any) -> None:
    """Without a few genes, a kind's mean stays where it was; as zeros, or as 10,000 of the rest, they would move it."""
    cells = draw_kinds({"B cell": 400, "T cell": 400})
    space = ExpressionSpace.fit(cells.counts, cells.read)
    measured = cells.read & ~np.isin(np.arange(45), [30, 31, 32, 33])  # of no kind
    lacking = cells.counts.tolil(copy=True)
    lacking[:, ~measured] = 0
    lacking = lacking.tocsr()
    whole, part = space.place(cells.counts, cells.read), space.place(lacking, measured)
    as_zeros = space.place(lacking, cells.read)
    spread = np.linalg.norm(whole - whole.mean(axis=0), axis=1).mean()
    assert np.linalg.norm((part - whole).mean(axis=0)) < 0.01 * spread
    assert np.linalg.norm((as_zeros - whole).mean(axis=0)) > 0.5 * spread


def test_too_little_in_common_is_refused(reference: Any) -> None:
    space = ExpressionSpace.fit(reference.counts, reference.read)
    with pytest.raises(GeneMatchError, match=r"hold \d\d% of the reference's counts; at least half are needed"):
        space.place(reference.counts, np.arange(45) >= 20)


def test_a_cell_without_counts_lies_somewhere(reference: Any) -> None:
    space = ExpressionSpace.fit(reference.counts, reference.read)
    assert np.isfinite(space.place(reference.counts[:1] * 0, reference.read)).all()
