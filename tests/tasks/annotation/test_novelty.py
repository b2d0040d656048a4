import numpy as np
import pytest

from xtrimogene.tasks.annotation.novelty import LabelDistance, NeighborDistance, Strangeness


def test_distances_are_mahalanobis_in_units_of_a_labels_own() -> None:
    """Without shrinkage to speak of: many cells, one long axis, two labels of which one scatters more."""
    random = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 20_000)
    cells = random.normal(size=(40_000, 2)) * [1.0, 5.0]
    cells[labels == "b"] = cells[labels == "b"] * 2 + [100.0, 0.0]
    fitted = LabelDistance.fit(cells, labels)
    variance = np.array([1.0, 25.0]) * (1 + 4) / 2
    median = 2 * np.log(2)  # of the squared length of two standard normal numbers
    for cell, center, own in (([0.0, 10.0], [0, 0], 1), ([4.0, 0.0], [0, 0], 1), ([104.0, 0.0], [100, 0], 4)):
        wanted = ((np.array(cell) - center) ** 2 / variance).sum() / (own * median / 2.5)
        assert fitted.of(np.array([cell]))[0] == pytest.approx(wanted, rel=0.05)


def test_turning_and_stretching_the_axes_changes_nothing() -> None:
    random = np.random.default_rng(0)
    labels = np.resize(["a", "b", "c"], 3000)
    cells = random.normal(size=(3000, 3)) + 5 * random.normal(size=(3, 3))[np.resize([0, 1, 2], 3000)]
    asked, turn = random.normal(size=(50, 3)) * 9, np.linalg.qr(random.normal(size=(3, 3)))[0] * 7
    straight, turned = LabelDistance.fit(cells, labels), LabelDistance.fit(cells @ turn, labels)
    np.testing.assert_allclose(turned.of(asked @ turn), straight.of(asked), rtol=1e-6)


def test_labels_of_one_cell_have_a_finite_distance() -> None:
    fitted = LabelDistance.fit(np.array([[0.0, 0.0], [5.0, 5.0]]), np.array(["a", "b"]))
    near, far = fitted.of(np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert near == 0 and 0 < far < np.inf


def test_half_of_the_cells_lie_usually_near() -> None:
    random = np.random.default_rng(0)
    cells, labels = random.normal(size=(400, 3)), np.resize(["a", "b"], 400)
    fitted = LabelDistance.fit(cells, labels)
    assert (fitted.of(cells) <= fitted.usual).mean() == pytest.approx(0.5, abs=0.01)


def test_neighbours_are_fifteen_or_all_there_are() -> None:
    line = np.arange(40, dtype=np.float64)[:, None]
    assert NeighborDistance.fit(line).of(np.array([[0.0], [-3.0]])).tolist() == [7.0, 10.0]
    assert NeighborDistance.fit(line[:2]).of(np.array([[0.0]])).tolist() == [0.5]


def test_distances_count_by_how_much_they_vary() -> None:
    distances = np.random.default_rng(0).normal(size=(999, 2)) * [3.0, 0.1]
    fitted = Strangeness.fit(distances)
    np.testing.assert_allclose(fitted.of(distances), fitted.held_out)
    one, other, both = fitted.of(np.array([[30.0, 0.0], [0.0, 1.0], [30.0, 1.0]]))
    assert one == pytest.approx(other, rel=0.2) and both == pytest.approx(one + other, rel=0.05)


def test_without_any_spread_what_differs_is_strange() -> None:
    fitted = Strangeness.fit(np.zeros((99, 2)))
    assert fitted.share(np.array([[0.0, 0.0], [0.1, 0.0]])).tolist() == [1.0, 0.01]


def test_shares_count_the_cell_itself() -> None:
    fitted = Strangeness.fit(np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]]))
    assert fitted.share(np.array([[0.5, 0.0], [2.0, 0.0], [9.0, 0.0]])).tolist() == [1.0, 0.8, 0.2]


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_cells_like_the_reference_are_seldom_strange(rate: float) -> None:
    called = []
    for seed in range(300):
        held_out, asked = np.random.default_rng(seed).normal(size=(2, 99, 2))
        called.append((Strangeness.fit(held_out).share(asked) <= rate).mean())
    assert rate - 0.02 < np.mean(called) < rate + 0.01


def test_a_vector_is_known_again_but_for_rounding() -> None:
    known = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    distance = NeighborDistance.fit(known)
    assert distance.has(known * np.float32(1 + 1e-6)).all()
    assert not distance.has(known * np.float32(1.01)).any()
    assert distance.has(np.stack([known[0], 1e4 * known[1], known[0] * 1.01])).tolist() == [True, False, False]
