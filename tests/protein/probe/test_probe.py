"""Probes that find what is there, and features and intervals by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from xtrimogene.errors import ConfigError
from xtrimogene.protein.probe.intervals import (
    accuracy_difference,
    accuracy_interval,
    spearman,
    spearman_difference,
    spearman_interval,
)
from xtrimogene.protein.probe.probe import classify_residues, composition, neighbor_one_hot, one_hot, regress


def test_ridge_finds_a_line_and_chooses_by_noise() -> None:
    random = np.random.default_rng(0)
    x, slope = random.normal(size=(80, 20)).astype(np.float32), random.normal(size=20)
    clean, noisy = x @ slope, x @ slope + 30 * random.normal(size=80)
    found = regress(x[:60], clean[:60], x[60:])
    np.testing.assert_allclose(found.values, clean[60:], atol=0.05)
    assert regress(x[:60], noisy[:60], x[60:]).strength > found.strength


def test_a_regression_does_not_depend_on_the_scale_of_vectors() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(50, 8)), random.normal(size=50)
    one, other = regress(x[:40], y[:40], x[40:]), regress(100 * x[:40] + 3, y[:40], 100 * x[40:] + 3)
    assert one.strength == other.strength
    np.testing.assert_allclose(one.values, other.values, atol=1e-6)


def test_labels_are_read_off_and_c_is_chosen_on_the_validation_part() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 5))
    labels = np.array(["C", "E", "H"])[np.argmax(x[:, :3], axis=1)]
    validation = np.arange(300) % 5 == 0
    found = classify_residues(x[:300], labels[:300], validation, x[300:])
    assert np.mean(found.values == labels[300:]) > 0.9
    assert found.strength == 1.0
    wide = random.normal(size=(400, 300))
    noisy = np.where(wide[:, 0] + 2 * random.normal(size=400) > 0, "C", "E")
    assert classify_residues(wide[:300], noisy[:300], validation, wide[300:]).strength < 1.0
    with pytest.raises(ConfigError, match="need a part to choose C on"):
        classify_residues(x[:300], labels[:300], np.zeros(300, bool), x[300:])


def test_one_hot_holds_only_the_places_that_vary() -> None:
    hot = one_hot(["MAK", "MGK", "MGR"])  # columns: A, G at place 2 and R, K at place 3, in the order of the letters
    assert hot.tolist() == [[1, 0, 0, 1], [0, 1, 0, 1], [0, 1, 1, 0]]
    with pytest.raises(ConfigError, match="of one length, not 2 to 3"):
        one_hot(["MA", "MAK"])


def test_composition_is_shares() -> None:
    shares = composition(["LLAG", "X"])
    assert shares[0, :4].tolist() == [0.5, 0.25, 0.25, 0.0]
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_neighbors_of_a_residue() -> None:
    hot = neighbor_one_hot("LAG", 1).reshape(3, 3, -1)
    assert hot[0, 0].sum() == hot[2, 2].sum() == 0  # beyond the ends
    assert hot.argmax(axis=2)[1].tolist() == [0, 1, 2]
    assert hot.sum() == 7


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_spearman_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    if len(set(truth)) > 1 and len(set(predicted)) > 1:
        assert spearman(truth, predicted) == pytest.approx(spearmanr(truth, predicted).statistic, abs=1e-9)
    else:
        assert spearman(truth, predicted) == 0


@settings(max_examples=10)
@given(st.integers(0, 100))
def test_a_resample_is_scored_as_if_its_proteins_were_written_out(seed: int) -> None:
    from xtrimogene.protein.probe.intervals import _weighted_spearman

    random = np.random.default_rng(seed)
    truth, predicted = random.integers(0, 9, 20), random.normal(size=20)
    drawn = random.integers(0, 20, 20)
    weight = np.bincount(drawn, minlength=20)[None].astype(float)
    expected = spearmanr(truth[drawn], predicted[drawn]).statistic
    assert _weighted_spearman(truth, predicted, weight)[0] == pytest.approx(expected, abs=1e-9)


def test_intervals_hold_their_mean_and_a_paired_difference_is_tighter() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=300)
    ours = truth + random.normal(size=300)
    theirs = ours + 0.1 * random.normal(size=300)
    found, beside = spearman_interval(truth, ours), spearman_difference(truth, ours, theirs)
    assert found.mean == pytest.approx(spearmanr(truth, ours).statistic)
    assert found.low < found.mean < found.high
    assert beside.high - beside.low < (found.high - found.low) / 2
    assert spearman_difference(truth, ours, ours).verdict == "ties"


def test_the_interval_of_an_accuracy_is_over_proteins() -> None:
    right, judged = np.array([10, 0, 10, 0] * 10), np.full(40, 10)
    found = accuracy_interval(right, judged)
    assert found.mean == 0.5
    # sd of a mean over 40 proteins that are all right or all wrong: 0.5 / sqrt(40) = 0.079
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.079, rel=0.15)
    assert accuracy_difference(right + 0, np.zeros_like(right), judged) == found
    with pytest.raises(ConfigError, match="at least two things"):
        accuracy_interval(right[:1], judged[:1])
