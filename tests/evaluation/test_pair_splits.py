"""What a split leaves out is in none of its training rows."""

from itertools import combinations
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.pair_splits import LeftOut, pair_of_row, split_pairs


def table(num_drugs: int = 7, num_lines: int = 6, width: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    groups = np.array(list(combinations(range(num_drugs), width)))
    drugs, lines = np.repeat(groups, num_lines, axis=0), np.tile(np.arange(num_lines), len(groups))
    kept = random.permutation(len(drugs))[: int(0.8 * len(drugs))]
    drugs, lines = drugs[kept], lines[kept]
    again = random.integers(len(drugs), size=5)  # measured twice, in the other order
    return np.concatenate([drugs, drugs[again][:, ::-1]]), np.concatenate([lines, lines[again]])


@given(st.integers(0, 50), st.sampled_from(get_args(LeftOut)), st.sampled_from([1, 2]))
def test_nothing_left_out_is_learned(seed: int, left_out: LeftOut, width: int) -> None:
    drugs, lines = table(width=width, seed=seed)
    tissues = np.array(["a", "b", "c"])[lines % 3]
    found = split_pairs(drugs, lines, left_out, tissues=tissues, num_folds=3, seed=seed)
    pair = pair_of_row(drugs)
    tested = np.concatenate([one.test for one in found.splits])
    assert set(tested) == set(range(len(drugs)))
    for split, units in zip(found.splits, found.units, strict=True):
        a, b = split.train, split.test
        if left_out == "measurement":
            assert not set(zip(pair[a], lines[a], strict=True)) & set(zip(pair[b], lines[b], strict=True))
        elif left_out == "pair":
            assert not set(pair[a]) & set(pair[b])
        elif left_out == "cell_line":
            assert not set(lines[a]) & set(lines[b])
        elif left_out == "tissue":
            assert not set(tissues[a]) & set(tissues[b])
        else:
            for row, own in zip(b, units, strict=True):
                out = sorted(own[own >= 0])
                assert out == sorted(set(drugs[row]) - set(drugs[a].ravel())) and own[0] >= 0
        if left_out != "drug":
            assert len(tested) == len(drugs) and len(units[0]) == 1


def test_seeds_deal_anew_and_units_keep_their_number() -> None:
    drugs, lines = table()
    first, second = (split_pairs(drugs, lines, "pair", seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.splits[0].test, second.splits[0].test)
    of_row = [np.empty(len(drugs), int) for _ in range(2)]
    for found, out in zip((first, second), of_row, strict=True):
        for split, units in zip(found.splits, found.units, strict=True):
            out[split.test] = units[:, 0]
    np.testing.assert_array_equal(*of_row)


def test_a_drug_of_every_pair_is_not_left_out() -> None:
    drugs = np.array([[0, other] for other in range(1, 7) for _ in range(4)])
    found = split_pairs(drugs, np.tile(np.arange(4), 6), "drug", num_folds=3)
    assert len(found.splits) == 2 and all(len(one.train) for one in found.splits)
    assert not (np.concatenate(found.units) == 0).any()


def test_refused() -> None:
    drugs, lines = table()
    with pytest.raises(ConfigError, match="needs the tissue of each"):
        split_pairs(drugs, lines, "tissue")
    with pytest.raises(ConfigError, match="by cell_line needs at least two"):
        split_pairs(drugs[lines == 0], lines[lines == 0], "cell_line")
