import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.bootstrap import (
    Interval,
    macro_f1_difference,
    macro_f1_interval,
    mean_difference,
    mean_interval,
)
from xtrimogene.evaluation.metrics import macro_f1

LABELS = np.array(["a", "b", "c"])


def noisy(truth: np.ndarray, error: float, random: np.random.Generator) -> np.ndarray:
    return np.where(random.random(len(truth)) < error, LABELS[random.integers(3, size=len(truth))], truth)


def population_macro_f1(error: float, shares: np.ndarray) -> float:
    predicted = shares * (1 - error) + error / 3  # of each label
    hits = shares * (1 - error + error / 3)
    return float(np.mean(2 * hits / (shares + predicted)))


def test_the_mean_is_macro_f1_itself() -> None:
    random = np.random.default_rng(0)
    truth = LABELS[random.integers(3, size=50)]
    ours, theirs = ([noisy(truth, error, random) for _ in range(3)] for error in (0.2, 0.6))
    mean_ours, mean_theirs = (np.mean([macro_f1(truth, one) for one in each]) for each in (ours, theirs))
    assert macro_f1_interval(truth, ours).mean == pytest.approx(mean_ours)
    assert macro_f1_difference(truth, ours, theirs).mean == pytest.approx(mean_ours - mean_theirs)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=30), st.integers(1, 3))
def test_identical_predictions_differ_by_exactly_nothing(cells: list[tuple[str, str]], num_seeds: int) -> None:
    truth, predicted = (np.array(column) for column in zip(*cells, strict=True))
    difference = macro_f1_difference(truth, [predicted] * num_seeds, [predicted] * num_seeds, num_resamples=200)
    assert difference == Interval(mean=0.0, low=0.0, high=0.0)
    assert difference.verdict == "ties"


def test_swapping_the_sides_turns_the_difference_round() -> None:
    random = np.random.default_rng(1)
    truth = LABELS[random.integers(3, size=80)]
    ours, theirs = ([noisy(truth, error, random) for _ in range(3)] for error in (0.2, 0.5))
    there, back = macro_f1_difference(truth, ours, theirs), macro_f1_difference(truth, theirs, ours)
    assert there.mean == pytest.approx(-back.mean)
    assert (there.verdict, back.verdict) == ("beats", "loses")
    assert there.low == pytest.approx(-back.high, abs=0.02)  # patterns are drawn in another order


def test_order_of_cells_does_not_matter() -> None:
    random = np.random.default_rng(2)
    truth = LABELS[random.integers(3, size=60)]
    ours = [noisy(truth, 0.4, random) for _ in range(3)]
    order = random.permutation(60)
    assert macro_f1_interval(truth[order], [one[order] for one in ours]) == macro_f1_interval(truth, ours)


def test_resampling_by_hand_with_two_cells_a_label() -> None:
    # a: one of two right, b: both right. a's hits are 0, 1, 2 with probability 1/4, 1/2, 1/4, errors go to b:
    # macro-F1 = (0 + 2/3) / 2 = .333, (2/3 + 4/5) / 2 = .733 or 1: the interval runs from the first to the last
    truth, predicted = np.array(["a", "a", "b", "b"]), np.array(["a", "b", "b", "b"])
    interval = macro_f1_interval(truth, [predicted])
    assert (interval.mean, interval.low, interval.high) == pytest.approx(((2 / 3 + 4 / 5) / 2, 1 / 3, 1.0))


def test_every_label_stays_in_every_resample() -> None:
    truth = np.array(["a"] * 200 + ["rare"])
    interval = macro_f1_interval(truth, [truth])
    assert interval == Interval(mean=1.0, low=1.0, high=1.0)


def test_seeds_that_disagree_widen_the_interval() -> None:
    truth = np.array(["a", "b"] * 200)
    good, bad = truth.copy(), truth.copy()
    bad[::3] = "b"
    agreeing = macro_f1_interval(truth, [bad, bad, bad])
    disagreeing = macro_f1_interval(truth, [good, bad, bad])
    assert disagreeing.high - disagreeing.low > 2 * (agreeing.high - agreeing.low)


@pytest.mark.slow
def test_the_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    shares = np.array([0.6, 0.3, 0.1])
    true = population_macro_f1(0.3, shares) - population_macro_f1(0.4, shares)
    covered = 0
    for _ in range(200):
        truth = LABELS[random.choice(3, p=shares, size=300)]
        interval = macro_f1_difference(
            truth, [noisy(truth, 0.3, random)], [noisy(truth, 0.4, random)], num_resamples=500
        )
        covered += interval.low <= true <= interval.high
    assert 0.90 <= covered / 200 <= 0.99


def test_cells_that_all_differ_give_an_interval_too() -> None:
    random = np.random.default_rng(4)
    truth = np.array([f"label {number}" for number in range(20)])[random.integers(20, size=2000)]
    ours, theirs = ([random.permutation(truth) for _ in range(3)] for _ in range(2))  # no two patterns alike
    difference = macro_f1_difference(truth, ours, theirs)
    assert difference.low < 0 < difference.high and difference.high - difference.low < 0.05


def test_unmatched_input_is_refused() -> None:
    truth = np.array(["a", "b"])
    with pytest.raises(ConfigError, match="in 2 and 1 seeds"):
        macro_f1_difference(truth, [truth, truth], [truth])
    for cells, predictions in ((truth, []), (truth[:0], [truth[:0]])):
        with pytest.raises(ConfigError, match="at least one test cell, one seed"):
            macro_f1_interval(cells, predictions)


def test_a_mean_interval_holds_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        scores = np.tile(random.normal(1.0, 1.0, size=40), (3, 1))
        interval = mean_interval(scores, num_resamples=400, seed=trial)
        held += interval.low <= 1.0 <= interval.high
    assert 180 <= held <= 199


def test_a_difference_is_paired() -> None:
    random = np.random.default_rng(0)
    easy = random.normal(size=(3, 30)) * 10
    found = mean_difference(easy + 0.5 + random.normal(size=(3, 30)) * 0.1, easy)
    assert found.verdict == "beats"
    assert 0.4 < found.low < found.mean < found.high < 0.6


def test_one_unit_is_no_bootstrap() -> None:
    with pytest.raises(ConfigError, match="at least two"):
        mean_interval(np.ones((3, 1)))
