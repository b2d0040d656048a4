import numpy as np
import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.protein.scaling_laws.checks import check_points


def test_points_come_back_as_float64() -> None:
    n, loss = check_points(2, n=np.array([1, 2]), loss=np.array([2.5, 2.25], dtype=np.float32))
    assert n.dtype == loss.dtype == np.float64 and loss.tolist() == [2.5, 2.25]


@pytest.mark.parametrize(
    ("n", "loss", "said"),
    [
        ([1, 2], [1], "got shapes .*'n': .2,., 'loss': .1,."),
        ([[1, 2]], [[1, 2]], "one value a run"),
        ([1], [1], "1 points are too few to fit; at least 2"),
        ([1, 0], [1, 1], "n must be positive and finite; point 1 is 0"),
        ([1, 2], [1, np.inf], "loss must be positive and finite; point 1 is inf"),
    ],
)
def test_bad_points_are_refused(n: list[float], loss: list[float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_points(2, n=np.array(n), loss=np.array(loss))
