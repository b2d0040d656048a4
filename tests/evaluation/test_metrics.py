import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.metrics import (
    ClusterScores,
    accuracy,
    batch_mixing,
    calibration_error,
    cluster_scores,
    macro_f1,
    mean_scores,
    per_class,
)

TRUTH = np.array(["a", "a", "a", "b", "b", "c"])
PREDICTED = np.array(["a", "a", "b", "b", "d", "a"])


def test_macro_f1_by_hand() -> None:
    # a: 2 hits, 3 true, 3 predicted -> 2/3; b: 1 hit, 2 true, 2 predicted -> 1/2; c: never predicted -> 0; d is no term
    assert macro_f1(TRUTH, PREDICTED) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert accuracy(TRUTH, PREDICTED) == pytest.approx(3 / 6)
    assert macro_f1(TRUTH, TRUTH) == accuracy(TRUTH, TRUTH) == 1.0


def test_per_class_by_hand() -> None:
    a, b, c = per_class(TRUTH, PREDICTED)
    assert (a.label, a.num_cells) == ("a", 3)
    assert (a.precision, a.recall, a.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (b.num_cells, b.precision, b.recall, b.f1) == (2, 0.5, 0.5, 0.5)
    assert (c.label, c.num_cells, c.precision, c.recall, c.f1) == ("c", 1, 0.0, 0.0, 0.0)
    assert np.mean([row.f1 for row in (a, b, c)]) == pytest.approx(macro_f1(TRUTH, PREDICTED))


@settings(max_examples=20)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=40), st.randoms())
def test_scores_do_not_depend_on_the_order_of_cells_or_the_names_of_labels(cells: list, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(cells, len(cells))
    renamed = [(truth.upper() * 2, predicted.upper() * 2) for truth, predicted in cells]
    scores = [macro_f1(*map(np.array, zip(*version, strict=True))) for version in (cells, shuffled, renamed)]
    assert scores[1] == pytest.approx(scores[0]) and scores[2] == pytest.approx(scores[0])
    assert 0 <= scores[0] <= 1


def test_cluster_scores_of_two_far_pairs_by_hand() -> None:
    embedding = np.array([[0.0], [1.0], [10.0], [11.0]])
    labels = np.array(["a", "a", "b", "b"])
    scores = cluster_scores(embedding, labels)
    # silhouette: within 1; to the other pair 10.5 (outer cells) or 9.5 (inner): (1 - 1/10.5 + 1 - 1/9.5) / 2
    assert (scores.ari, scores.nmi) == pytest.approx((1.0, 1.0))
    assert scores.silhouette == pytest.approx(1 - (1 / 10.5 + 1 / 9.5) / 2)


def test_cluster_scores_of_crossed_labels_by_hand() -> None:
    embedding = np.array([[0.0], [1.0], [10.0], [11.0]])
    scores = cluster_scores(embedding, np.array(["a", "b", "a", "b"]))
    # clusters {0, 1}, {2, 3} tell nothing of the labels: NMI 0; ARI (0 - 2*2/6) / (2 - 2*2/6) = -1/2
    assert scores.nmi == pytest.approx(0.0, abs=1e-12)
    assert scores.ari == pytest.approx(-0.5)
    assert scores.silhouette < 0


def test_cells_without_an_embedding_are_left_out() -> None:
    embedding = np.array([[0.0], [1.0], [10.0], [11.0], [np.nan]])
    labels, batches = np.array(["a", "a", "b", "b", "b"]), np.array(["x", "y", "x", "y", "y"])
    assert cluster_scores(embedding, labels) == cluster_scores(embedding[:4], labels[:4])
    assert batch_mixing(embedding, labels, batches) == batch_mixing(embedding[:4], labels[:4], batches[:4])


def test_batch_mixing_by_hand() -> None:
    # nearest cell: 0 -> 1 (other batch), 1 -> 0 (other), 5 -> 6 (same), 6 -> 5 (same)
    embedding, labels = np.array([[0.0], [1.0], [5.0], [6.0]]), np.array(["a"] * 4)
    batches = np.array(["x", "y", "x", "x"])
    # cell 0 (x): other 1, chance 1/3 -> 3; cell 1 (y): other 1, chance 3/3 -> 1; cells 2, 3: 0
    assert batch_mixing(embedding, labels, batches, num_neighbors=1) == pytest.approx((3 + 1 + 0 + 0) / 4)
    assert batch_mixing(embedding, labels, batches, num_neighbors=50) == pytest.approx(1.0)  # every other cell: chance


def test_batch_mixing_weighs_labels_equally_and_skips_those_of_one_batch() -> None:
    embedding = np.array([[0.0], [1.0], [50.0], [51.0], [90.0], [91.0], [95.0], [96.0], [200.0], [201.0]])
    labels = np.array(["a"] * 2 + ["b"] * 6 + ["c"] * 2)
    batches = np.array(list("xy") + list("xxyyyy") + list("xx"))
    # a: 1 (the only other cell); b: every nearest cell is of the same batch: 0; c has one batch
    assert batch_mixing(embedding, labels, batches, num_neighbors=1) == pytest.approx(0.5)
    assert np.isnan(batch_mixing(embedding[8:], labels[8:], batches[8:]))


def test_batch_mixing_is_one_for_random_batches_of_any_size_and_zero_for_separate_ones() -> None:
    random = np.random.default_rng(0)
    embedding = random.normal(size=(600, 5))
    labels = np.array(["a", "b"])[random.integers(2, size=600)]
    batches = np.where(random.random(600) < 0.1, "small", "large")
    assert batch_mixing(embedding, labels, batches) == pytest.approx(1.0, abs=0.1)
    apart = embedding + 100 * (batches == "small")[:, None]
    assert batch_mixing(apart, labels, batches, num_neighbors=10) < 0.02


def test_mean_scores() -> None:
    scores = [ClusterScores(ari=0.0, nmi=0.2, silhouette=-1.0), ClusterScores(ari=1.0, nmi=0.4, silhouette=0.0)]
    mean = mean_scores(scores)
    assert (mean.ari, mean.nmi, mean.silhouette) == pytest.approx((0.5, 0.3, -0.5))


def test_one_label_has_no_clusters() -> None:
    with pytest.raises(ConfigError, match="3 cells have 1 labels"):
        cluster_scores(np.zeros((3, 2)), np.array(["a"] * 3))


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.55, 1.0])
    right = np.array([True, True, False, True, False])
    # two of three right at .95, one of one at .55, none of one at 1 (in the bin of .95)
    assert calibration_error(confidence, right) == pytest.approx((abs(3 * 0.95 + 1.0 - 2) + abs(0.55 - 1)) / 5)
    assert calibration_error(np.array([0.5, 0.5]), np.array([True, False])) == 0.0
