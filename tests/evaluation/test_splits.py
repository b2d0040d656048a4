import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.splits import (
    Split,
    absent_labels,
    any_label_shared,
    between_groups,
    draw_splits,
    draw_train,
    folds_by_cell,
    folds_by_group,
)

GROUPS = np.array(["d1", "d1", "d2", "d2", "d3", "d3"])
LABELS = np.array(["B", "T", "B", "T", "B", "rare"])


def test_between_groups_learns_from_one_and_tests_the_other() -> None:
    split = between_groups(GROUPS, train="d2", test="d3", grouping="donor")
    assert (split.name, split.grouping) == ("d2 -> d3", "donor")
    np.testing.assert_array_equal(split.train, [2, 3])
    np.testing.assert_array_equal(split.test, [4, 5])
    with pytest.raises(ConfigError, match=r"no cell belongs to the donor 'd9'; there are d1, d2, d3\."):
        between_groups(GROUPS, train="d2", test="d9", grouping="donor")


def test_each_group_is_a_fold() -> None:
    splits = folds_by_group(GROUPS, LABELS, grouping="donor")
    assert [split.name for split in splits] == ["donor: d1", "donor: d2", "donor: d3"]
    np.testing.assert_array_equal(splits[1].train, [0, 1, 4, 5])
    np.testing.assert_array_equal(splits[1].test, [2, 3])


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyz")), min_size=2, max_size=60), st.integers(0, 9)
)
def test_no_group_is_on_both_sides_and_every_cell_is_tested_once(cells: list[tuple[str, str]], seed: int) -> None:
    groups, labels = np.array([group for group, _ in cells]), np.array([label for _, label in cells])
    num_groups = len(np.unique(groups))
    if num_groups < 2:
        return
    for num_folds in {2, num_groups}:
        splits = folds_by_group(groups, labels, grouping="donor", num_folds=num_folds, seed=seed)
        assert len(splits) == num_folds
        for split in splits:
            assert not set(groups[split.train]) & set(groups[split.test])
            np.testing.assert_array_equal(np.sort(np.concatenate([split.train, split.test])), np.arange(len(groups)))
        np.testing.assert_array_equal(np.sort(np.concatenate([split.test for split in splits])), np.arange(len(groups)))


@settings(max_examples=30)
@given(st.lists(st.sampled_from("aaaabbc"), min_size=5, max_size=80), st.integers(2, 5), st.integers(0, 9))
def test_folds_by_cell_share_labels_and_keep_rare_ones(labels: list[str], num_folds: int, seed: int) -> None:
    names = np.array(labels)
    splits = folds_by_cell(names, num_folds=num_folds, seed=seed)
    assert {split.grouping for split in splits} == {"cell"}
    np.testing.assert_array_equal(np.sort(np.concatenate([split.test for split in splits])), np.arange(len(names)))
    for label in np.unique(names):
        tested = [int((names[split.test] == label).sum()) for split in splits]
        assert sum(tested) == (names == label).sum() and max(tested) - min(tested) <= 1


def test_seed_deals_folds_anew_and_the_same_seed_the_same_folds() -> None:
    labels = np.array(["a"] * 20 + ["b"] * 20)
    first, again, other = (folds_by_cell(labels, seed=seed)[0].test for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_draw_train_keeps_the_share_of_each_label_and_the_test() -> None:
    labels = np.array(["a"] * 20 + ["b"] * 3 + ["c"] + ["a"] * 5)
    split = Split(name="s", train=np.arange(24), test=np.arange(24, 29), grouping="donor")
    drawn = draw_train(split, labels, fraction=0.5, seed=1)
    assert {label: int((labels[drawn.train] == label).sum()) for label in "abc"} == {"a": 10, "b": 2, "c": 1}
    assert set(drawn.train) <= set(split.train)
    np.testing.assert_array_equal(drawn.test, split.test)
    np.testing.assert_array_equal(draw_train(split, labels, fraction=1.0).train, split.train)
    with pytest.raises(ConfigError, match=r"fraction=0\.0 "):
        draw_train(split, labels, fraction=0.0)


def test_absent_labels_are_named() -> None:
    splits = folds_by_group(GROUPS, LABELS, grouping="donor")
    assert [absent_labels(split, LABELS) for split in splits] == [(), (), ("rare",)]


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(ConfigError, match="same cell"):
        Split(name="s", train=np.array([0, 1]), test=np.array([1]), grouping="cell")
    with pytest.raises(ConfigError, match="2 training and 0 test cells"):
        Split(name="s", train=np.array([0, 1]), test=np.array([], dtype=int), grouping="cell")
    with pytest.raises(ConfigError, match="4 folds by donor are not possible with 3 groups; give 2 to 3"):
        folds_by_group(GROUPS, LABELS, grouping="donor", num_folds=4)
    with pytest.raises(ConfigError, match="1 folds by cell are not possible; there are 6 cells"):
        folds_by_cell(LABELS, num_folds=1)


def test_splits_of_all_seeds_test_the_same_cells() -> None:
    groups, labels = np.repeat(["d1", "d2", "d3"], 20), np.tile(["B", "T"], 30)
    whole = between_groups(groups, train="d1", test="d2")
    ways = {
        "cell": draw_splits(labels, None, (0, 1), grouping="cell", num_folds=None, between=whole),
        "between": draw_splits(labels, groups, (0, 1), grouping="study", num_folds=None, between=whole),
        "each": draw_splits(labels, groups, (0, 1), grouping="donor", num_folds=None),
        "dealt": draw_splits(labels, groups, (0, 1), grouping="donor", num_folds=2),
    }
    assert {name: len(splits[0]) for name, splits in ways.items()} == {"cell": 5, "between": 1, "each": 3, "dealt": 2}
    for name, (first, second) in ways.items():
        tested = [np.sort(np.concatenate([split.test for split in splits])) for splits in (first, second)]
        np.testing.assert_array_equal(tested[0], np.arange(20, 40) if name == "between" else np.arange(60))
        np.testing.assert_array_equal(tested[0], tested[1])
        assert not np.array_equal(first[0].train, second[0].train), "a seed changes what is learned from"
    assert [len(split.train) for split in ways["each"][0]] == [36] * 3
    assert len(ways["between"][0][0].train) == 18 and len(ways["cell"][0][0].train) == 48


def test_a_label_is_shared_by_two_groups_or_none_is() -> None:
    labels = np.array(["a", "a", "b", "b"])
    assert any_label_shared(labels, np.array(["x", "y", "y", "y"]))
    assert not any_label_shared(labels, np.array(["x", "x", "y", "y"]))
    assert not any_label_shared(np.array(["a"]), np.array(["x"]))
