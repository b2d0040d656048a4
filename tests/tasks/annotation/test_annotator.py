"""Two kinds of cells and a third that the reference does not have."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import vstack

from xtrimogene.errors import ConfigError
from xtrimogene.tasks.annotation.annotator import check_candidates, check_options
from xtrimogene.tasks.annotation.learned import AnnotationMethod

every = pytest.mark.parametrize("method", ["ensemble", "linear", "knn", "finetune", "match"])
ASKED = {"B cell": 50, "T cell": 50, "platelet": 50}
FIELDS = ("best", "confidence", "possible", "novel")


@every
def test_it_says_what_cells_are_and_which_are_none_of_it(
    method: AnnotationMethod, reference: Any, draw_kinds: Any
) -> None:
    annotator, asked = reference.fit(method=method), draw_kinds(ASKED, seed=5)
    found = asked.asked(annotator)
    assert found.labels == ("B cell", "T cell")
    assert (found.best[:100] == np.repeat([0, 1], 50)).all()
    assert found.novel[100:].all() and found.novel[:100].mean() < 0.12
    careless = asked.asked(annotator, error_rate=0.5)
    assert (careless.novel == found.novel).all(), "how many labels are possible is no matter of novelty"
    assert careless.possible.any(axis=1).all()
    assert (found.confidence[:100] > 0.9).mean() > 0.9


@pytest.mark.parametrize("method", ["ensemble", "linear", "knn"])  # "match" reads counts too, which are of one of both
def test_a_cell_between_two_types_may_be_either(method: AnnotationMethod, reference: Any) -> None:
    random = np.random.default_rng(0)
    cells = reference.rows(np.zeros(120, dtype=int)).at(random.normal(size=(120, 2)).astype(np.float32))
    counts = reference.counts[random.integers(0, 60, 120)]
    near = type(cells)(cells.embedding, counts, np.repeat(["memory B", "naive B"], 60), cells.read)
    between = near.rows(slice(0, 1)).at(near.embedding.mean(axis=0, keepdims=True))
    found = between.asked(near.fit(method=method), error_rate=0.02)
    assert found.possible.all() and found.confidence[0] < 0.9


@every
def test_a_cells_answer_does_not_depend_on_others(method: AnnotationMethod, reference: Any, draw_kinds: Any) -> None:
    annotator, asked = reference.fit(method=method, align=False), draw_kinds({"B cell": 9, "platelet": 3}, seed=5)
    order = np.random.default_rng(0).permutation(12)
    together, shuffled, alone = (asked.rows(rows).asked(annotator) for rows in (slice(None), order, slice(1)))
    for field in FIELDS:
        np.testing.assert_allclose(getattr(shuffled, field), getattr(together, field)[order], atol=1e-6)
        np.testing.assert_allclose(getattr(alone, field), getattr(together, field)[:1], atol=1e-6)


@pytest.mark.parametrize("method", ["ensemble", "linear", "knn", "match"])
def test_rows_without_an_embedding_teach_nothing_and_get_no_answer(method: AnnotationMethod, reference: Any) -> None:
    empty = reference.rows(np.arange(7)).at(np.full((7, 2), np.nan, dtype=np.float32))
    both = type(empty)(
        np.vstack([empty.embedding, reference.embedding]),
        vstack([empty.counts, reference.counts], format="csr"),
        np.append(["nothing"] * 7, reference.labels),
        reference.read,
    )
    annotator = both.fit(method=method)
    found = both.rows(np.array([0, 7])).asked(annotator)
    assert found.labels == ("B cell", "T cell")
    assert found.best.tolist() == [-1, 0] and np.isnan(found.confidence).tolist() == [True, False]
    assert not found.possible[0].any() and not found.novel[0]
    assert found.cells.embedding.tolist() == reference.embedding[:1].tolist()
    assert empty.asked(annotator).best.tolist() == [-1] * 7
    wanted = both.rows(slice(7, None)).asked(reference.fit(method=method))
    for field in FIELDS:
        np.testing.assert_allclose(getattr(both.asked(annotator), field)[7:], getattr(wanted, field), atol=1e-6)


def test_cells_beyond_their_labels_share_teach_and_do_not_calibrate(draw_kinds: Any) -> None:
    cells = draw_kinds({"B cell": 100, "T cell": 50}, seed=3)
    counted = np.arange(150) % 3 > 0
    annotator, all_of_them = cells.fit(method="knn", counted=counted), cells.fit(method="knn")
    assert len(annotator.learned.classifier.embedding) == 150
    assert len(annotator.of_right_labels) == len(annotator.strangeness.held_out) == 100
    np.testing.assert_array_equal(annotator.learned.centers, all_of_them.learned.centers)


@pytest.mark.parametrize("method", ["linear", "knn"])
def test_a_query_measured_in_another_way_is_moved_back(method: AnnotationMethod, draw_kinds: Any) -> None:
    """All three types lie elsewhere in the embedding, and a few genes that are no type's count thrice."""
    cells, asked = draw_kinds(dict.fromkeys(ASKED, 100)), draw_kinds(dict.fromkeys(ASKED, 40), seed=5)
    counts = asked.counts.copy()
    counts.data[np.isin(counts.indices, [30, 31, 32])] *= 3
    odd = type(asked)(asked.embedding + [3.9, 2.0], counts, asked.labels, asked.read)
    true = np.repeat([0, 1, 2], 40)
    moved, left = (odd.asked(cells.fit(method=method, align=align)) for align in (True, False))
    assert moved.aligned and not left.aligned
    np.testing.assert_array_equal(left.cells.embedding, odd.embedding)
    np.testing.assert_allclose(odd.embedding - moved.cells.embedding, np.tile([3.9, 2.0], (120, 1)), atol=0.8)
    assert (moved.best == true).mean() > 0.95 > (left.best == true).mean()
    assert moved.novel.mean() < 0.1 < 0.3 < left.novel.mean()


def test_cells_that_are_noisier_all_alike_are_not_strange(draw_kinds: Any) -> None:
    cells, asked = draw_kinds(dict.fromkeys(ASKED, 100)), draw_kinds(dict.fromkeys(ASKED, 40), seed=5)
    noise = np.random.default_rng(0).normal(size=asked.embedding.shape) * 2
    noisy = asked.at((asked.embedding + noise).astype(np.float32))
    alike, left = (noisy.asked(cells.fit(align=align)).novel.mean() for align in (True, False))
    assert 2 * alike < left


def test_types_that_the_reference_lacks_are_not_moved_onto_others(draw_kinds: Any) -> None:
    """However many, and whatever names they bear."""
    four = draw_kinds({"B cell": 120, "T cell": 120, "platelet": 300}, seed=1)
    labels = np.where((four.labels != "platelet") & (np.arange(540) % 2 == 0), "other " + four.labels, four.labels)
    named = four.named(labels)
    annotator = named.rows(four.labels != "platelet").fit()
    between = named.rows(four.labels == "platelet")
    spread = between.at(between.embedding + np.where(np.arange(300) % 2, 4.0, -4.0)[:, None] * [1, 0])
    found = spread.asked(annotator)
    assert len(np.unique(found.best)) >= 2 and not found.aligned
    assert found.novel.mean() > 0.9


def test_whole_groups_are_held_out(reference: Any) -> None:
    """Two donors lie apart, and what tells the types in one misleads in the other."""
    random = np.random.default_rng(0)
    donors = np.repeat(["one", "two"], 100)
    labels = np.tile(np.repeat(["a", "b"], 50), 2)
    side = np.where(labels == "a", -1.0, 1.0) * np.where(donors == "one", 1.0, -1.0)
    embedding = np.column_stack([side, np.where(donors == "one", 20.0, -20.0)]) + 0.3 * random.normal(size=(200, 2))
    cells = reference.rows(random.integers(0, 100, 200)).named(labels).at(embedding)
    by_cell, by_donor = (cells.fit(method="knn", groups=groups) for groups in (None, donors))
    assert by_cell.of_right_labels.mean() > 0.9 and by_donor.of_right_labels.mean() == pytest.approx(0.5, abs=0.02)


def test_cells_whose_label_is_in_their_group_alone_say_nothing_of_confidence(reference: Any) -> None:
    donors = np.where(np.arange(100) % 2, "one", "two")
    labels = np.where((reference.labels == "T cell") & (donors == "one"), "only in one", reference.labels)
    annotator = reference.named(labels).fit(groups=donors)
    assert len(annotator.of_right_labels) == len(annotator.strangeness.held_out) == 60
    assert reference.asked(annotator).labels == ("B cell", "T cell", "only in one")


def test_folds_with_fewer_labels_weigh_votes_the_same(reference: Any) -> None:
    """Types of one donor each: folds know fewer labels than the whole reference."""
    random = np.random.default_rng(0)
    embedding, labels, donors = [], [], []
    for donor, own in (("one", 30.0), ("two", 60.0), ("three", 90.0)):
        for name, place, number in (("a", 0.0, 60), ("b", 10.0, 60), (f"of {donor}", own, 20)):
            embedding.append(random.normal(place, 1.0, size=(number, 2)))
            labels += [name] * number
            donors += [donor] * number
    cells = reference.rows(random.integers(0, 60, 420)).named(np.array(labels)).at(np.concatenate(embedding))
    annotator = cells.fit(method="knn", groups=np.array(donors))
    found = cells.rows(np.zeros(400, dtype=int)).at(random.normal(0.0, 1.0, size=(400, 2))).asked(annotator)
    assert found.possible.any(axis=1).all()
    assert annotator.of_right_labels.max() == pytest.approx(found.confidence.max())


def test_what_cannot_be_learned_is_said(reference: Any) -> None:
    with pytest.raises(ConfigError, match="the reference has 1 labels in cells that can be read; at least two"):
        reference.rows(slice(60)).fit()
    with pytest.raises(ConfigError, match="every label of the reference is in one group, or has one cell"):
        reference.fit(groups=np.where(reference.labels == "B cell", "one", "two"))
    with pytest.raises(ConfigError, match="every label of the reference is in one group, or has one cell"):
        reference.rows(slice(3)).named(np.array(["a", "b", "c"])).fit()
    with pytest.raises(ConfigError, match="the reference has one group"):
        reference.fit(groups=np.full(100, "one"))
    with pytest.raises(ConfigError, match="but for one group, the reference has a single cell"):
        reference.fit(groups=np.where(np.arange(100) == 0, "one", "two"))
    with pytest.raises(ConfigError, match=r"error_rate=1.5 must lie between 0 and 1"):
        reference.asked(reference.fit(), error_rate=1.5)
    with pytest.raises(ConfigError, match="method='forest' is not one of ensemble, linear, knn"):
        check_options(method="forest")


@pytest.mark.parametrize("method", ["ensemble", "linear"])
def test_three_cells_are_enough(method: AnnotationMethod, reference: Any) -> None:
    few = reference.rows(np.array([0, 1, 99]))
    assert few.asked(few.fit(method=method)).best.tolist() == [0, 0, 1]


@every
def test_confidence_is_that_among_the_candidates(method: AnnotationMethod, draw_kinds: Any) -> None:
    three = draw_kinds({"B cell": 40, "T cell": 40, "platelet": 40})
    annotator, asked = three.fit(method=method, align=False), draw_kinds(ASKED, seed=5)
    everything = asked.asked(annotator)
    found = asked.asked(annotator, candidates=["platelet", "B cell"])
    assert found.labels == ("B cell", "platelet")
    kept = everything.probabilities[:, [0, 2]]
    np.testing.assert_allclose(found.probabilities, kept / kept.sum(axis=1, keepdims=True), atol=1e-9)
    assert (found.best[:50] == 0).all() and (found.best[100:] == 1).all()
    assert found.possible.shape == (150, 2) and (found.novel == everything.novel).all()


def test_a_described_label_is_given_and_is_not_novel(reference: Any, draw_kinds: Any) -> None:
    annotator, asked = reference.fit(method="match"), draw_kinds(ASKED, seed=5)
    described = {"platelet": np.arange(20, 25)}
    cells = annotator.learned.view(asked.embedding, asked.counts, asked.read, described=described)
    found = annotator.annotate(cells, described=described)
    assert found.labels == ("B cell", "T cell", "platelet")
    assert (found.best == np.repeat([0, 1, 2], 50)).all() and found.novel.mean() < 0.1
    assert not found.elsewhere.any()
    only = annotator.annotate(cells, described=described, candidates=["T cell", "platelet"])
    assert only.labels == ("T cell", "platelet") and (only.best[50:] == np.repeat([0, 1], 50)).all()
    assert only.novel[100:].mean() < 0.1 and (only.elsewhere == np.repeat([True, False, False], 50)).all()
    wrong = {"platelet": np.arange(30, 35)}  # genes that no kind has
    cells = annotator.learned.view(asked.embedding, asked.counts, asked.read, described=wrong)
    alone = annotator.annotate(cells, described=wrong, candidates=["platelet"])
    assert alone.novel.mean() > 0.9, "what speaks against a label makes it unknown"


@pytest.mark.parametrize(
    ("method", "candidates", "described", "words"),
    [
        ("linear", None, ["platelet"], "markers= describes labels to method='match', and the method is 'linear'"),
        ("match", None, ["T cell"], "describes 'T cell', of which the reference has cells; give another name"),
        ("match", ["NK"], [], "candidates= holds 'NK'; the labels are 'B cell', 'T cell'"),
        ("match", [], ["platelet"], "candidates= is empty; the labels are 'B cell', 'T cell', 'platelet'"),
    ],
)
def test_candidates_that_cannot_be(method: str, candidates: Any, described: list[str], words: str) -> None:
    genes = {name: np.arange(2) for name in described}
    with pytest.raises(ConfigError, match=words):
        check_candidates(np.array(["B cell", "T cell"]), candidates, genes, method)


def test_a_tuned_fold_is_held_to_its_own_embedding(reference: Any) -> None:
    """What the network that saw all cells makes of them must not count for cells held out."""
    tuned, nothing = reference.tuned(), np.zeros_like(reference.embedding)
    seeing = reference.fit(method="finetune", tuned=tuned)
    blind = reference.fit(method="finetune", tuned=replace(tuned, folds=(nothing,) * 3))
    same = reference.fit(method="ensemble")
    np.testing.assert_array_equal(blind.learned.classifier.weight, seeing.learned.classifier.weight)
    np.testing.assert_array_equal(same.learned.classifier.weight, seeing.learned.classifier.weight)
    assert seeing.of_right_labels.mean() > 0.95
    assert blind.strangeness.center[0] != seeing.strangeness.center[0]
    before = [one.held_out["calibration_error_before"] for one in (blind, seeing)]
    assert before[0] > before[1] + 0.01, "half of the answers of a blind fold are chance"
