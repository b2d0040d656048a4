import numpy as np
import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.tasks.umap_layout import UmapLayout

CENTERS = np.random.default_rng(1).normal(0, 6, (3, 10))


def draw(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    kind = random.integers(0, 3, number)
    return random.normal(CENTERS[kind]).astype(np.float32), kind


@pytest.fixture(scope="module")
def known() -> tuple[np.ndarray, np.ndarray]:
    return draw(120, 0)


@pytest.fixture(scope="module")
def layout(known: tuple[np.ndarray, np.ndarray]) -> UmapLayout:
    return UmapLayout.fit(known[0])


def test_cells_lie_among_the_reference_cells_of_their_kind(
    layout: UmapLayout, known: tuple[np.ndarray, np.ndarray]
) -> None:
    asked, kind = draw(40, 2)
    apart = np.linalg.norm(layout.project(asked)[:, None] - layout.places, axis=2)
    assert (known[1][apart.argmin(axis=1)] == kind).all()


def test_cells_of_the_reference_land_beside_themselves(
    layout: UmapLayout, known: tuple[np.ndarray, np.ndarray]
) -> None:
    moved = np.linalg.norm(layout.project(known[0]) - layout.places, axis=1)
    assert moved.max() < 0.3 * layout.places.std(axis=0).max()


def test_a_cells_place_depends_on_no_other_cell_and_on_no_rounding(layout: UmapLayout) -> None:
    asked, _ = draw(40, 2)
    together = layout.project(asked)
    np.testing.assert_allclose(layout.project(asked[-3:]), together[-3:], atol=1e-4)
    far = np.vstack([asked[:5], 100 * asked[5:10]])
    np.testing.assert_allclose(layout.project(far)[:5], together[:5], atol=1e-4)
    noise = np.random.default_rng(3).uniform(-1e-6, 1e-6, asked.shape).astype(np.float32)
    np.testing.assert_allclose(layout.project(asked + noise), together, atol=1e-3)


def test_a_cell_as_far_from_all_lies_in_their_middle() -> None:
    corners = np.eye(6, dtype=np.float32)
    layout = UmapLayout(reference=corners, places=corners[:, :2].copy())
    placed = layout.project(np.zeros((1, 6), dtype=np.float32))
    np.testing.assert_allclose(placed, corners[:, :2].mean(axis=0)[None], atol=1e-6)


def test_a_cell_lies_between_its_neighbours_by_how_near_they_are() -> None:
    """Of distances 1, 2 and 3 the last is left out, and the others weigh 2 and 1."""
    reference = np.array([[1], [-2], [-3]], dtype=np.float32)
    layout = UmapLayout(reference=reference, places=np.array([[3, 0], [0, 6], [9, 9]], dtype=np.float32))
    np.testing.assert_allclose(layout.project(np.zeros((1, 1), dtype=np.float32)), [[2, 2]], atol=1e-6)


def test_a_seed_gives_one_layout(layout: UmapLayout, known: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(UmapLayout.fit(known[0]).places, layout.places)
    assert (UmapLayout.fit(known[0], seed=1).places != layout.places).any()


def test_a_cell_that_lies_nowhere_has_no_place(layout: UmapLayout) -> None:
    asked, _ = draw(3, 2)
    asked[1] = np.nan
    placed = layout.project(asked)
    assert np.isnan(placed[1]).all() and np.isfinite(placed[[0, 2]]).all()
    assert np.isnan(layout.project(asked[1:2])).all()


def test_few_cells_are_refused(known: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ConfigError, match="a UMAP of 4 cells cannot be; at least 5 are needed, or umap=False"):
        UmapLayout.fit(known[0][:4])
