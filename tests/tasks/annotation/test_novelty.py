import numpy as np
import pytest

from xtrimogene.tasks.annotation.novelty import LabelDistance, Strangeness, doubt


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


def test_doubt_is_the_log_odds_of_the_others() -> None:
    scores = np.log([[0.5, 0.5, 0.0001], [0.9, 0.05, 0.05], [1.0, 1e-12, 1e-12]])
    np.testing.assert_allclose(doubt(scores), [0.0, np.log(1 / 9), np.log(1e-6)], atol=1e-3)


def test_distance_and_doubt_count_by_how_much_they_vary() -> None:
    random = np.random.default_rng(0)
    distance, doubts = np.exp(3 * random.normal(size=999)), 0.1 * random.normal(size=999)
    fitted = Strangeness.fit(distance, doubts)
    np.testing.assert_allclose(fitted.of(distance, doubts), fitted.held_out)
    far, unsure, both = fitted.of(np.exp(np.array([30.0, 0.0, 30.0])), np.array([0.0, 1.0, 1.0]))
    assert far == pytest.approx(unsure, rel=0.2) and both == max(far, unsure)
    certain = fitted.of(np.exp(np.array([30.0])), np.array([-99.0]))
    assert certain == far, "a cell that lies far away is strange however certain its label seems"


def test_without_any_spread_what_differs_is_strange() -> None:
    fitted = Strangeness.fit(np.ones(99), np.zeros(99))
    assert fitted.share(np.array([1.0, 2.0]), np.zeros(2)).tolist() == [1.0, 0.01]


def test_shares_count_the_cell_itself() -> None:
    distance, asked = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.5, 2.0, 9.0])
    fitted = Strangeness.fit(distance, np.log(distance))
    assert fitted.share(asked, np.log(asked)).tolist() == [1.0, 0.8, 0.2]


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_cells_like_the_reference_are_seldom_strange(rate: float) -> None:
    called = []
    for seed in range(300):
        distance, doubts = np.exp(np.random.default_rng(seed).normal(size=(2, 198)))
        fitted = Strangeness.fit(distance[:99], doubts[:99])
        called.append((fitted.share(distance[99:], doubts[99:]) <= rate).mean())
    assert rate - 0.02 < np.mean(called) < rate + 0.01
