import numpy as np
import pytest

from xtrimogene.protein.scaling_laws.basins import find_basins
from xtrimogene.protein.scaling_laws.huber import HuberObjective


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_of_points_that_are_their_own_mirror_the_law_is_that_which_falls(order: slice) -> None:
    """Losses as even in ln N as in ln D are fitted as well by alpha and beta as by their negatives."""
    size, tokens = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5)))
    loss = 2 + 0.01 * (np.log(size / 1e8) + np.log(tokens / 1e10)) ** 2 + 0.01 * np.log(size / 1e8) ** 2
    huber = HuberObjective.of(size, tokens, loss)
    starts = np.array([[-3, -3, 0.7, 1.0, 1.0], [-3, -3, 0.7, -1.0, -1.0]])[order]
    ends, (best, mirrored) = find_basins(huber, starts)
    assert (ends[0, 3:] > 0).all() and (ends[1, 3:] < 0).all()
    assert (best.kind, mirrored.kind) == ("best", "degenerate")
    assert mirrored.objective == pytest.approx(best.objective, rel=1e-6)
    assert (best.num_starts, mirrored.num_starts) == (1, 1)
