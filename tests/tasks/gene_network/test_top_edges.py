import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xtrimogene.tasks.gene_network.top_edges as top_edges_module
from xtrimogene.errors import ConfigError
from xtrimogene.tasks.gene_network.top_edges import top_edges


@given(st.integers(0, 10_000), st.booleans(), st.integers(1, 40))
def test_the_heaviest_whatever_the_blocks(seed: int, directed: bool, top: int) -> None:
    random = np.random.default_rng(seed)
    weights = random.normal(size=(7, 7)).astype(np.float32)
    sources = np.sort(random.permutation(7)[:4])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(top_edges_module, "_BLOCK", 14)  # two sources at a time
        found = top_edges(lambda rows: weights[rows], 7, sources=sources, top=top, min_weight=-0.5, directed=directed)
    wanted = sorted(
        (-weights[a, b], a, b)
        for a in sources
        for b in range(7)
        if a != b and weights[a, b] >= -0.5 and (directed or a < b)
    )[:top]
    assert list(zip(-found.weight, found.source, found.target, strict=True)) == wanted


def test_what_is_unknown_is_no_edge() -> None:
    weights = np.array([[0, np.nan, 1], [2, 0, np.nan], [np.nan, 3, 0]], dtype=np.float32)
    found = top_edges(lambda rows: weights[rows], 3, sources=np.arange(3), top=9, directed=True)
    assert found.weight.tolist() == [3, 2, 1] and len(found) == 3
    none = top_edges(lambda rows: weights[rows], 3, sources=np.arange(3), top=9, min_weight=4.0, directed=True)
    assert len(none) == 0
    with pytest.raises(ConfigError, match="top=0"):
        top_edges(lambda rows: weights[rows], 3, sources=np.arange(3), top=0, directed=True)
