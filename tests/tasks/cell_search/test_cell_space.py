import numpy as np
import pytest

from xtrimogene.errors import GeneMatchError
from xtrimogene.tasks.cell_search.cell_space import CellSpace, place, unit
from xtrimogene.tasks.expression_space import ExpressionSpace


def test_the_cosine_is_the_embeddings_twice_and_that_of_the_axes_once(reference, draw_kinds) -> None:
    expression = ExpressionSpace.fit(reference.counts, reference.read)
    cells = draw_kinds({"B cell": 5, "T cell": 5}, seed=1)
    axes = place(expression, cells.counts, cells.read)
    rows = np.hstack([cells.embedding, axes]).astype(np.float32)
    center = np.arange(rows.shape[1], dtype=np.float32) / 10
    directions = CellSpace(center=center, expression=expression).directions(rows)
    width = cells.embedding.shape[1]
    first, second = (unit(part) for part in np.split(rows - center, [width], axis=1))
    np.testing.assert_allclose(directions @ directions.T, (2 * first @ first.T + second @ second.T) / 3, atol=1e-6)
    alone = CellSpace(center=center[:width], expression=None).directions(rows[:, :width])
    np.testing.assert_allclose(alone @ alone.T, first @ first.T, atol=1e-6)


def test_a_cell_at_the_mean_is_like_none(reference) -> None:
    space = CellSpace(center=np.ones(4, dtype=np.float32), expression=None)
    assert (space.directions(np.ones((1, 4), dtype=np.float32)) == 0).all()
    assert place(None, reference.counts, reference.read).shape == (reference.counts.shape[0], 0)


def test_a_query_that_measured_little_is_refused(reference) -> None:
    expression = ExpressionSpace.fit(reference.counts, reference.read)
    with pytest.raises(GeneMatchError, match="at least half are needed"):
        place(expression, reference.counts, np.arange(reference.counts.shape[1]) < 2)
