from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.classifiers import (
    CLASSIFIERS,
    Classifier,
    LinearClassifier,
    NeighborClassifier,
    Scaling,
    classify,
)

LINE = np.arange(40, dtype=np.float32)[:, None]
SIDES = np.array(["left"] * 20 + ["right"] * 20)
both = pytest.mark.parametrize("classifier", CLASSIFIERS)


@both
def test_a_line_is_cut_in_the_middle(classifier: Classifier) -> None:
    asked = np.array([[-5.0], [12.0], [27.0], [99.0]], dtype=np.float32)
    assert classify(LINE, SIDES, asked, classifier=classifier).tolist() == ["left", "left", "right", "right"]


def test_labels_are_text() -> None:
    with pytest.raises(ConfigError, match="labels are int64; text is needed"):
        classify(np.zeros((3, 2)), np.arange(3), np.zeros((1, 2)))


def test_fifteen_neighbours_vote() -> None:
    # around 0: 7 of "near" and 8 of "ring" are the 15 nearest, a 16th would tie; the ring wins, not the very nearest
    train = np.concatenate([np.full(7, 0.1), np.full(8, 1.0), np.full(50, 9.0)])[:, None]
    labels = np.array(["near"] * 7 + ["ring"] * 8 + ["near"] * 50)
    assert classify(train, labels, np.array([[0.0]]), classifier="knn").tolist() == ["ring"]


def test_linear_does_not_depend_on_place_scale_or_rotation() -> None:
    random = np.random.default_rng(0)
    train, test = (random.normal(size=(size, 4)) * [1, 3, 0.1, 9] for size in (60, 30))
    labels = np.where(train[:, 0] + 0.3 * random.normal(size=60) > 0, "up", "down")
    rotation = np.linalg.qr(random.normal(size=(4, 4))).Q * 1e3
    np.testing.assert_array_equal(
        classify(train, labels, test), classify(train @ rotation + 7, labels, test @ rotation + 7)
    )


def test_linear_lets_a_dimension_count_for_as_much_as_it_varies() -> None:
    random = np.random.default_rng(0)
    labels = np.array(["left"] * 20 + ["right"] * 20)
    sides = np.where(labels == "left", -1.0, 1.0)
    train = np.column_stack([sides, 1e-4 * random.normal(size=(40, 60))])  # noise that would fit the labels as well
    noise = 1e-4 * np.sign(random.normal(size=60)) * 5
    asked = np.array([[0.9, *noise], [-0.9, *noise]])
    assert classify(train, labels, asked).tolist() == ["right", "left"]
    assert classify(train, labels, asked, scaling="each").tolist() != ["right", "left"]


def test_scaled_each_no_dimension_counts_for_more() -> None:
    random = np.random.default_rng(0)
    train, test = random.normal(size=(60, 4)), random.normal(size=(30, 4))
    labels = np.where(train[:, 0] + 0.3 * random.normal(size=60) > 0, "up", "down")
    stretch = np.array([1e-3, 1.0, 50.0, 1e3])
    np.testing.assert_array_equal(
        classify(train, labels, test, scaling="each"),
        classify(train * stretch + 7, labels, test * stretch + 7, scaling="each"),
    )


@pytest.mark.parametrize("scaling", get_args(Scaling))
def test_linear_answers_where_all_cells_are_alike(scaling: Scaling) -> None:
    labels = np.array(["a", "a", "a", "b"])
    assert set(classify(np.ones((4, 2)), labels, np.ones((2, 2)), scaling=scaling)) <= {"a", "b"}


def test_linear_weighs_labels_equally() -> None:
    random = np.random.default_rng(1)
    train = np.concatenate([random.normal(-1, 1, size=(190, 1)), random.normal(1, 1, size=(10, 1))])
    labels = np.array(["many"] * 190 + ["few"] * 10)
    assert classify(train, labels, np.array([[-0.6], [0.7]])).tolist() == ["many", "few"]


@both
def test_rows_without_an_embedding_teach_nothing_and_get_no_label(classifier: Classifier) -> None:
    train = np.vstack([LINE, np.full((30, 1), np.nan, dtype=np.float32)])
    labels = np.concatenate([SIDES, np.full(30, "empty")])
    asked = np.array([[3.0], [np.nan], [35.0]], dtype=np.float32)
    assert classify(train, labels, asked, classifier=classifier).tolist() == ["left", "", "right"]
    assert classify(LINE, SIDES, asked[1:2], classifier=classifier).tolist() == [""]
    with pytest.raises(ConfigError, match="no training cell has an embedding"):
        classify(train[40:], labels[40:], asked, classifier=classifier)


@both
def test_one_label_is_the_only_answer(classifier: Classifier) -> None:
    assert classify(LINE, np.full(40, "x"), LINE[:2], classifier=classifier).tolist() == ["x", "x"]


@settings(max_examples=10)
@given(st.integers(0, 99))
def test_answers_do_not_depend_on_the_order_of_the_test(seed: int) -> None:
    random = np.random.default_rng(seed)
    train, test = random.normal(size=(40, 3)), random.normal(size=(12, 3))
    order = random.permutation(12)
    for classifier in CLASSIFIERS:
        expected = classify(train, SIDES, test, classifier=classifier)[order]
        np.testing.assert_array_equal(classify(train, SIDES, test[order], classifier=classifier), expected)


@pytest.mark.parametrize("num_labels", [2, 5])
def test_linear_scores_are_those_of_scikit_learn(num_labels: int) -> None:
    random = np.random.default_rng(0)
    train, test = random.normal(size=(90, 4)), random.normal(size=(30, 4))
    labels = np.array([f"type {i}" for i in random.integers(0, num_labels, size=90)])
    fitted = LinearClassifier.fit(train, labels, variance=np.ones(4), strength=0.5)
    theirs = LogisticRegression(C=0.5, class_weight="balanced", max_iter=1000).fit(train - train.mean(axis=0), labels)
    expected = theirs.predict_proba(test - train.mean(axis=0))
    np.testing.assert_allclose(softmax(fitted.scores(test), axis=1), expected, atol=1e-9)


def test_votes_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    train, test = random.normal(size=(90, 4)), random.normal(size=(30, 4))
    labels = np.array([f"type {i}" for i in random.integers(0, 3, size=90)])
    shares = np.exp(NeighborClassifier.fit(train, labels).scores(test))
    expected = KNeighborsClassifier(15).fit(train, labels).predict_proba(test)
    np.testing.assert_allclose(shares, (15 * expected + 1 / 3) / 16, atol=1e-12)
    assert shares.sum(axis=1) == pytest.approx(1.0)
