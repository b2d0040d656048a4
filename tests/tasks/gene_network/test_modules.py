import random
import sys

import numpy as np
import pytest

import xtrimogene.tasks.gene_network.modules as modules_module
from xtrimogene.errors import ConfigError, MissingExtraError
from xtrimogene.tasks.gene_network.modules import find_modules


def three_kinds(sizes: tuple[int, ...] = (40, 30, 20)) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    kind = draw.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (np.eye(len(sizes))[kind] + draw.normal(0, 0.05, (len(kind), len(sizes)))).astype(np.float32), kind


def test_kinds_of_genes_are_found_the_largest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, kind = three_kinds()
    monkeypatch.setattr(modules_module, "_BLOCK", 7 * len(vectors))  # seven genes at a time
    np.testing.assert_array_equal(find_modules(vectors, resolution=0.3), kind)


def test_a_small_module_is_none() -> None:
    vectors, kind = three_kinds((40, 4))
    found = find_modules(vectors, resolution=0.3, num_neighbors=3, min_size=5)
    assert set(found[kind == 1].tolist()) == {-1} and found.max() >= 0
    with pytest.raises(ConfigError, match="no module has 50 genes"):
        find_modules(vectors, resolution=0.3, min_size=50)


def test_the_seed_decides_and_nobody_elses_draws_change() -> None:
    vectors = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
    random.seed(5)
    wanted = [random.random() for _ in range(3)]
    random.seed(5)
    first = find_modules(vectors, seed=3)
    assert [random.random() for _ in range(3)] == wanted
    np.testing.assert_array_equal(find_modules(vectors, seed=3), first)


def test_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = three_kinds()
    with pytest.raises(ConfigError, match="at least 3"):
        find_modules(vectors[:2])
    with pytest.raises(ConfigError, match="resolution=0"):
        find_modules(vectors, resolution=0.0)
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(MissingExtraError, match=r"xtrimogene\[graph\]"):
        find_modules(vectors)
