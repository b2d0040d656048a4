import numpy as np
import pytest

from xtrimogene.tasks.annotation.learned import Views
from xtrimogene.tasks.joint_space import JointSpace


@pytest.fixture
def reference() -> Views:
    random = np.random.default_rng(0)
    return Views(embedding=random.normal(3, 10, (200, 8)), components=random.normal(-2, 0.1, (200, 5)))


def test_each_part_has_its_share_of_squared_distances(reference: Views) -> None:
    """Whatever their units: the mean squared distance from the reference's mean is 2/3 and 1/3."""
    placed = JointSpace.fit(reference).place(reference)
    assert placed.dtype == np.float32
    np.testing.assert_allclose(placed.mean(axis=0), 0, atol=1e-6)
    squares = np.square(placed, dtype=np.float64)
    np.testing.assert_allclose(squares[:, :8].sum(axis=1).mean(), 2 / 3, rtol=1e-5)
    np.testing.assert_allclose(squares[:, 8:].sum(axis=1).mean(), 1 / 3, rtol=1e-5)


def test_a_cells_place_is_its_own(reference: Views) -> None:
    space = JointSpace.fit(reference)
    few = Views(embedding=reference.embedding[:3], components=reference.components[:3])
    np.testing.assert_array_equal(space.place(few), space.place(reference)[:3])


def test_a_cell_without_an_embedding_lies_nowhere(reference: Views) -> None:
    embedding = reference.embedding.copy()
    embedding[1] = np.nan
    placed = JointSpace.fit(reference).place(Views(embedding=embedding, components=reference.components))
    assert np.isnan(placed[1]).all() and np.isfinite(placed[[0, 2]]).all()


def test_a_part_that_does_not_vary_says_nothing() -> None:
    cells = Views(embedding=np.arange(12.0).reshape(4, 3), components=np.ones((4, 2)))
    placed = JointSpace.fit(cells).place(cells)
    assert np.isfinite(placed).all() and (placed[:, 3:] == 0).all()
