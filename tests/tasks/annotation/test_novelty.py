import numpy as np
import pytest

from xtrimogene.tasks.annotation.novelty import Novelty, as_strange


def test_distances_are_mahalanobis_in_units_of_a_labels_own() -> None:
    """Without shrinkage to speak of: many cells, one long axis, two labels of which one scatters more."""
    random = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 20_000)
    cells = random.normal(size=(40_000, 2)) * [1.0, 5.0]
    cells[labels == "b"] = cells[labels == "b"] * 2 + [100.0, 0.0]
    fitted = Novelty.fit(cells, labels)
    variance = np.array([1.0, 25.0]) * (1 + 4) / 2
    median = 2 * np.log(2)  # of the squared length of two standard normal numbers
    for cell, center, own in (([0.0, 10.0], [0, 0], 1), ([4.0, 0.0], [0, 0], 1), ([104.0, 0.0], [100, 0], 4)):
        wanted = ((np.array(cell) - center) ** 2 / variance).sum() / (own * median / 2.5)
        assert fitted.strangeness(np.array([cell]))[0] == pytest.approx(wanted, rel=0.05)


def test_turning_and_stretching_the_axes_changes_nothing() -> None:
    random = np.random.default_rng(0)
    labels = np.resize(["a", "b", "c"], 3000)
    cells = random.normal(size=(3000, 3)) + 5 * random.normal(size=(3, 3))[np.resize([0, 1, 2], 3000)]
    asked, turn = random.normal(size=(50, 3)) * 9, np.linalg.qr(random.normal(size=(3, 3)))[0] * 7
    straight, turned = Novelty.fit(cells, labels), Novelty.fit(cells @ turn, labels)
    np.testing.assert_allclose(turned.strangeness(asked @ turn), straight.strangeness(asked), rtol=1e-6)


def test_labels_of_one_cell_have_a_finite_distance() -> None:
    fitted = Novelty.fit(np.array([[0.0, 0.0], [5.0, 5.0]]), np.array(["a", "b"]))
    near, far = fitted.strangeness(np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert near == 0 and 0 < far < np.inf


def test_shares_count_the_cell_itself() -> None:
    shares = as_strange(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.5, 2.0, 9.0]))
    assert shares.tolist() == [1.0, 0.8, 0.2]


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_cells_like_the_reference_are_seldom_strange(rate: float) -> None:
    draws = (np.random.default_rng(seed).normal(size=(2, 99)) ** 2 for seed in range(300))
    called = [(as_strange(*pair) <= rate).mean() for pair in draws]
    assert rate - 0.02 < np.mean(called) < rate + 0.01
