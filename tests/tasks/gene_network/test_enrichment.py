import numpy as np
import pytest
from scipy.stats import fisher_exact

from xtrimogene.tasks.gene_network.enrichment import enrich, set_members


def test_worked_by_hand() -> None:
    """Of 20 genes a module has 5, a set has 5, and 4 are in both: (5 over 4) 15 + 1, of (20 over 5) ways."""
    modules = np.array([0] * 5 + [-1] * 15)
    sets = np.zeros((2, 20), dtype=bool)
    sets[0, 1:6] = True
    sets[1, 10:13] = True  # three genes: too few to be tested
    found = enrich(modules, sets)
    assert found.overlap.tolist() == [[4, 0]] and found.set_sizes.tolist() == [5, 3] and found.num_genes == 20
    assert found.p[0, 0] == pytest.approx((5 * 15 + 1) / 15504)
    assert found.adjusted_p[0, 0] == pytest.approx(found.p[0, 0]), "one test, nothing to correct"
    assert found.p[0, 1] == found.adjusted_p[0, 1] == 1.0
    assert found.fold[0, 0] == pytest.approx(4 / (5 * 5 / 20))


def test_it_is_fishers_test_and_the_correction_is_over_all_pairs() -> None:
    random = np.random.default_rng(0)
    modules = random.integers(-1, 3, 200)
    sets = random.random((4, 200)) < 0.2
    sets[0] |= modules == 1
    found = enrich(modules, sets)
    for module in range(3):
        for one in range(4):
            own = modules == module
            table = [
                [(own & sets[one]).sum(), (own & ~sets[one]).sum()],
                [(~own & sets[one]).sum(), (~own & ~sets[one]).sum()],
            ]
            assert found.p[module, one] == pytest.approx(fisher_exact(table, alternative="greater").pvalue)
    order = np.sort(found.p.ravel())
    assert found.adjusted_p.min() == pytest.approx((order * 12 / np.arange(1, 13)).min())
    assert (found.adjusted_p >= found.p).all()


def test_members_are_of_the_genes_asked_only() -> None:
    members = set_members([np.array([7, -1, 3]), np.array([-1])], np.array([3, 5, 9]))
    assert members.tolist() == [[True, False, False], [False, False, False]]


def test_no_set_that_can_be_tested_is_no_error() -> None:
    found = enrich(np.zeros(10, dtype=np.int64), np.zeros((2, 10), dtype=bool))
    assert (found.adjusted_p == 1).all()
