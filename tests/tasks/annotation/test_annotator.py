"""Two clouds and a third that the reference does not have."""

import numpy as np
import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.tasks.annotation.annotator import AnnotationMethod, Annotator, check_options

both = pytest.mark.parametrize("method", ["linear", "knn"])
CENTERS = {"B cell": (0.0, 0.0), "T cell": (8.0, 0.0), "platelet": (4.0, 30.0)}


def cloud(kind: str, num_cells: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(CENTERS[kind], 1.0, size=(num_cells, 2)).astype(np.float32)


def reference(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return np.vstack([cloud("B cell", 60, seed), cloud("T cell", 40, seed + 1)]), np.array(
        ["B cell"] * 60 + ["T cell"] * 40
    )


@both
def test_it_says_what_cells_are_and_which_are_none_of_it(method: AnnotationMethod) -> None:
    annotator = Annotator.fit(*reference(), method=method)
    asked = np.vstack([cloud("B cell", 50, 5), cloud("T cell", 50, 6), cloud("platelet", 50, 7)])
    found = annotator.annotate(asked)
    assert found.labels == ("B cell", "T cell")
    assert (found.best[:100] == np.repeat([0, 1], 50)).all()
    assert found.novel[100:].all() and found.novel[:100].mean() < 0.12
    careless = annotator.annotate(asked, error_rate=0.5)
    assert (careless.novel == found.novel).all(), "how many labels are possible is no matter of novelty"
    assert careless.possible.any(axis=1).all()
    assert (found.confidence[:100] > 0.9).mean() > 0.9


@both
def test_a_cell_between_two_types_may_be_either(method: AnnotationMethod) -> None:
    near = np.vstack([cloud("B cell", 60, 0), cloud("B cell", 60, 1) + 1])
    labels = np.array(["memory B"] * 60 + ["naive B"] * 60)
    found = Annotator.fit(near, labels, method=method).annotate(near.mean(axis=0, keepdims=True), error_rate=0.02)
    assert found.possible.all() and found.confidence[0] < 0.9


@both
def test_a_cells_answer_does_not_depend_on_others(method: AnnotationMethod) -> None:
    annotator = Annotator.fit(*reference(), method=method)
    asked = np.vstack([cloud("B cell", 9, 5), cloud("platelet", 3, 7)])
    together, order = annotator.annotate(asked), np.random.default_rng(0).permutation(12)
    shuffled, alone = annotator.annotate(asked[order]), annotator.annotate(asked[:1])
    for field in ("best", "confidence", "possible", "novel"):
        np.testing.assert_allclose(getattr(shuffled, field), getattr(together, field)[order], atol=1e-12)
        np.testing.assert_allclose(getattr(alone, field), getattr(together, field)[:1], atol=1e-12)


@both
def test_rows_without_an_embedding_teach_nothing_and_get_no_answer(method: AnnotationMethod) -> None:
    embedding, labels = reference()
    empty = np.full((7, 2), np.nan, dtype=np.float32)
    annotator = Annotator.fit(np.vstack([embedding, empty]), np.append(labels, ["nothing"] * 7), method=method)
    found = annotator.annotate(np.vstack([empty[:1], embedding[:1]]))
    assert found.labels == ("B cell", "T cell")
    assert found.best.tolist() == [-1, 0] and np.isnan(found.confidence).tolist() == [True, False]
    assert not found.possible[0].any() and not found.novel[0]
    assert annotator.annotate(empty).best.tolist() == [-1] * 7


def test_whole_groups_are_held_out() -> None:
    """Two donors lie apart, and what tells the types in one misleads in the other."""
    random = np.random.default_rng(0)
    donors = np.repeat(["one", "two"], 100)
    labels = np.tile(np.repeat(["a", "b"], 50), 2)
    side = np.where(labels == "a", -1.0, 1.0) * np.where(donors == "one", 1.0, -1.0)
    embedding = np.column_stack([side, np.where(donors == "one", 20.0, -20.0)]) + 0.3 * random.normal(size=(200, 2))
    by_cell, by_donor = (Annotator.fit(embedding, labels, method="knn", groups=groups) for groups in (None, donors))
    assert by_cell.of_right_labels.mean() > 0.9 and by_donor.of_right_labels.mean() == pytest.approx(0.5, abs=0.02)
    assert np.median(by_cell.held_out_distances) < 1 < 30 < np.median(by_donor.held_out_distances)


def test_cells_whose_label_is_in_their_group_alone_say_nothing_of_confidence() -> None:
    embedding, labels = reference()
    donors = np.where(np.arange(100) % 2, "one", "two")
    labels = np.where((labels == "T cell") & (donors == "one"), "only in one", labels)
    annotator = Annotator.fit(embedding, labels, groups=donors)
    assert len(annotator.of_right_labels) == len(annotator.held_out_distances) == 60
    assert annotator.annotate(embedding).labels == ("B cell", "T cell", "only in one")


def test_types_of_one_donor_each_make_no_cell_strange() -> None:
    """Folds know fewer labels than the whole reference, and a vote is worth the same in both."""
    random = np.random.default_rng(0)
    embedding, labels, donors = [], [], []
    for donor, own in (("one", 30.0), ("two", 60.0), ("three", 90.0)):
        for name, place, number in (("a", 0.0, 60), ("b", 10.0, 60), (f"of {donor}", own, 20)):
            embedding.append(random.normal(place, 1.0, size=(number, 2)))
            labels += [name] * number
            donors += [donor] * number
    annotator = Annotator.fit(np.concatenate(embedding), np.array(labels), method="knn", groups=np.array(donors))
    found = annotator.annotate(random.normal(0.0, 1.0, size=(400, 2)))
    assert found.novel.mean() < 0.12 and found.possible.any(axis=1).all()
    assert annotator.of_right_labels.max() == pytest.approx(found.confidence.max())


def test_what_cannot_be_learned_is_said() -> None:
    embedding, labels = reference()
    with pytest.raises(ConfigError, match="the reference has 1 labels in cells that can be read; at least two"):
        Annotator.fit(embedding[:60], labels[:60])
    with pytest.raises(ConfigError, match="every label of the reference is in one group, or has one cell"):
        Annotator.fit(embedding, labels, groups=np.where(labels == "B cell", "one", "two"))
    with pytest.raises(ConfigError, match="every label of the reference is in one group, or has one cell"):
        Annotator.fit(embedding[:3], np.array(["a", "b", "c"]))
    with pytest.raises(ConfigError, match="the reference has one group"):
        Annotator.fit(embedding, labels, groups=np.full(100, "one"))
    with pytest.raises(ConfigError, match=r"error_rate=1.5 must lie between 0 and 1"):
        Annotator.fit(embedding, labels).annotate(embedding, error_rate=1.5)
    with pytest.raises(ConfigError, match="method='forest' is not one of linear, knn"):
        check_options(method="forest")
