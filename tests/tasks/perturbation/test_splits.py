from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.names import parts_of
from xtrimogene.tasks.perturbation.splits import (
    unseen_combinations,
    unseen_contexts,
    unseen_pairs,
    unseen_perturbations,
)

SINGLE = [f"g{number}" for number in range(8)]
PAIRS = ["+".join(pair) for pair in combinations(SINGLE, 2)]


def parts(effects: Effects, rows: np.ndarray) -> set[str]:
    return {part for name in effects.perturbation[rows].tolist() for part in parts_of(name)}


@pytest.mark.parametrize("seed", range(5))
def test_no_tested_perturbation_has_only_seen_parts(make_effects: Callable[..., Effects], seed: int) -> None:
    effects = make_effects(SINGLE + PAIRS + SINGLE, [0] * 36 + [1] * 8)
    splits = unseen_perturbations(effects, num_folds=4, seed=seed)
    assert sorted(np.concatenate([split.test for split in splits]).tolist()) == list(range(44))
    for split in splits:
        seen = parts(effects, split.train)
        assert all(not seen.issuperset(parts_of(name)) for name in effects.perturbation[split.test].tolist())


@pytest.mark.parametrize("num_seen", [0, 1, 2])
def test_so_many_parts_of_a_tested_pair_were_seen(make_effects: Callable[..., Effects], num_seen: int) -> None:
    effects = make_effects(SINGLE + PAIRS)
    split = unseen_combinations(effects, num_seen=num_seen, seed=3)
    seen = parts(effects, split.train)
    tested = effects.perturbation[split.test].tolist()
    assert tested and all(len(seen & set(parts_of(name))) == num_seen and "+" in name for name in tested)
    assert not set(tested) & set(effects.perturbation[split.train].tolist())


def test_whole_contexts_and_whole_pairs_are_held_out(make_effects: Callable[..., Effects]) -> None:
    effects = make_effects(["A", "B", "A", "B", "A"], [0, 0, 1, 1, 2])
    splits = unseen_contexts(effects)
    assert [split.test.tolist() for split in splits] == [[0, 1], [2, 3], [4]]
    joined = make_effects(SINGLE[:4] + PAIRS)
    for split in unseen_pairs(joined):
        assert all("+" in name for name in joined.perturbation[split.test].tolist())
        assert parts(joined, split.test) <= set(SINGLE)
    assert unseen_pairs(effects) == ()


def test_what_cannot_be_held_out_is_refused(make_effects: Callable[..., Effects]) -> None:
    effects = make_effects(["A", "B"])
    with pytest.raises(ConfigError, match="3 folds are not possible with 2 perturbed genes"):
        unseen_perturbations(effects, num_folds=3)
    with pytest.raises(ConfigError, match="there is one; give group_key="):
        unseen_contexts(effects)
    with pytest.raises(ConfigError, match="no combination with 1 seen parts"):
        unseen_combinations(effects, num_seen=1)
    with pytest.raises(ConfigError, match="none of 0, 1 and 2"):
        unseen_combinations(effects, num_seen=3)
