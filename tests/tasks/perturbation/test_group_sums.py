import numpy as np
from scipy.sparse import csr_matrix

from xtrimogene.tasks.perturbation.group_sums import GroupSums


def test_sums_are_those_of_all_blocks() -> None:
    random = np.random.default_rng(0)
    values, group = random.random((50, 6)) * (random.random((50, 6)) < 0.5), random.integers(-1, 3, size=50)
    sums = GroupSums(4, 6)
    for start in range(0, 50, 8):
        sums.add(csr_matrix(values[start : start + 8]), group[start : start + 8])
    for number in range(3):
        np.testing.assert_allclose(sums.means()[number], values[group == number].mean(axis=0))
    assert sums.sizes.tolist() == [*np.bincount(group[group >= 0]), 0] and not sums.means()[3].any()
