import numpy as np
import pytest

from xtrimogene.tasks.annotation.novelty import as_far, distances


def test_distances_are_the_mean_to_fifteen() -> None:
    line = np.arange(40, dtype=np.float64)[:, None]
    assert distances(line, np.array([[0.0], [-3.0]])).tolist() == [7.0, 10.0]
    assert distances(line[:2], np.array([[0.0]])).tolist() == [0.5]


def test_shares_count_the_cell_itself() -> None:
    shares = as_far(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.5, 2.0, 9.0]))
    assert shares.tolist() == [1.0, 0.8, 0.2]


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_cells_like_the_reference_are_seldom_far(rate: float) -> None:
    called = [(as_far(*(np.random.default_rng(seed).normal(size=(2, 99)) ** 2)) <= rate).mean() for seed in range(300)]
    assert rate - 0.02 < np.mean(called) < rate + 0.01
