"""Tuning a model to labels: what is judged, and which vectors come back."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import FineTuneConfig
from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.splits import Split
from xtrimogene.inference import Inference
from xtrimogene.tasks.annotation.tuned import with_tuned
from xtrimogene.tasks.annotation.tuning import held_out_loss, held_out_scores, tune
from xtrimogene.training.labelled_cells import draw_judged

CONFIG = FineTuneConfig(peak_lr=1e-2, step_tokens=400, steps_per_epoch=4, max_epochs=1)


def folds_of(splits: Sequence[Split]) -> np.ndarray:
    fold = np.empty(sum(len(split.test) for split in splits), dtype=np.int64)
    for number, split in enumerate(splits):
        fold[split.test] = number
    return fold


def draw_scores(seed: int, num_labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    label = random.integers(0, num_labels, 60)
    scores = random.normal(size=(60, num_labels))
    scores[np.arange(60), label] += 1.5
    return scores, label


@given(seed=st.integers(0, 50), scale=st.floats(0.2, 5), shift=st.floats(-3, 3))
def test_being_surer_is_no_better(seed: int, scale: float, shift: float) -> None:
    scores, label = draw_scores(seed)
    assert held_out_loss(scale * scores + shift, label) == pytest.approx(held_out_loss(scores, label), rel=1e-3)


def test_labels_count_alike_and_those_not_learned_do_not() -> None:
    scores, label = draw_scores(0)
    again = np.flatnonzero(label == 1)
    more, less = np.concatenate([np.arange(60), again, again]), held_out_loss(scores, label)
    assert held_out_loss(scores[more], label[more]) == pytest.approx(less, rel=0.02)
    wider = np.column_stack([scores, np.full(60, -np.inf)])
    assert held_out_loss(wider, label) == pytest.approx(less)
    assert held_out_loss(np.vstack([wider, wider[:4]]), np.append(label, [3] * 4)) == pytest.approx(less)
    assert held_out_loss(wider[:4], np.full(4, 3)) == np.inf


def test_a_cell_that_is_lost_counts_for_no_more_than_one() -> None:
    """By hand: at any temperature two of three labels are right, and of the third's two cells one is surely wrong."""
    label = np.array([0] * 8 + [1] * 8 + [2] * 2)
    scores = 200.0 * np.eye(3)[label]
    assert held_out_loss(scores, label) == pytest.approx(0, abs=0.01)
    scores[-1] = [200.0, 0.0, 0.0]
    assert held_out_loss(scores, label) == pytest.approx(2 / 6, abs=0.05)


@pytest.mark.parametrize("batches", [None, np.resize(["x", "y"], 30)])
def test_views_are_those_of_the_weights_that_come_back(
    batches: np.ndarray | None, tiny_model: PretrainedModel, make_counts: Any
) -> None:
    counts, labels = make_counts(30, 400, seed=1), np.resize(["a", "b", "c"], 30)
    inference = Inference(tiny_model)
    before = inference.cell_embeddings(counts)
    found = tune(tiny_model, inference, counts, before, labels, config=CONFIG, batches=batches, progress=False)
    assert len(found.losses) == 2 and len(found.folds) == len(found.splits) == 3
    now = with_tuned(inference, tiny_model, found.weights).cell_embeddings(counts)
    np.testing.assert_array_equal(found.embedding, now)
    assert (found.num_epochs == 0) == bool((now == before).all())
    np.testing.assert_array_equal(inference.cell_embeddings(counts), before)


def test_what_is_judged_is_a_part_of_the_cells_by_their_own_labels(
    tiny_model: PretrainedModel, make_counts: Any
) -> None:
    counts, labels = make_counts(60, 400, seed=1), np.resize(["a", "b", "b"], 60)
    inference = Inference(tiny_model)
    before = inference.cell_embeddings(counts)
    told: list[tuple[np.ndarray, np.ndarray]] = []

    def judge(scores: np.ndarray, label: np.ndarray) -> float:
        told.append((scores, label))
        return 1.0

    config = replace(CONFIG, judged_tokens=int(counts.nnz / 2))
    found = tune(tiny_model, inference, counts, before, labels, config=config, judge=judge, progress=False)
    fold = folds_of(found.splits)
    label = np.unique(labels, return_inverse=True)[1]
    some = draw_judged(np.diff(counts.indptr), label, fold, config.judged_tokens, seed=config.seed)
    assert 15 < len(some) < 45
    scores, given = told[0]
    np.testing.assert_array_equal(given, label[some])
    np.testing.assert_allclose(scores, held_out_scores([before[some]] * 3, labels[some], fold[some]), atol=1e-3)


def test_a_label_that_a_fold_lacks_is_given_to_no_cell_of_it(tiny_model: PretrainedModel, make_counts: Any) -> None:
    counts, labels = make_counts(20, 400, seed=1), np.array([*["a", "b"] * 9, "rare", "a"])
    inference = Inference(tiny_model)
    vectors = inference.cell_embeddings(counts)
    found = tune(tiny_model, inference, counts, vectors, labels, config=CONFIG, progress=False)
    scores = held_out_scores(found.folds, labels, folds_of(found.splits))
    lacking = [split.test for split in found.splits if "rare" not in labels[split.train]]
    assert len(lacking) == 1
    assert (scores[:, 2] == -np.inf).nonzero()[0].tolist() == lacking[0].tolist()
    assert np.isfinite(found.losses).all() and all(torch.isfinite(one).all() for one in found.weights.values())


def test_scores_are_of_what_each_fold_learned_from() -> None:
    """By hand: the first fold's embedding tells the labels apart, the second's is turned around."""
    labels, place = np.repeat(["a", "b"], 20), np.arange(40)
    right = np.where(labels == "a", -1.0, 1.0)[:, None] * np.ones((40, 2)) + 0.01 * place[:, None]
    turned = np.where(place % 2, -1, 1)[:, None] * right  # test cells, the even ones, are as they were
    scores = held_out_scores([right, turned], labels, 1 - place % 2)
    found = np.array(["a", "b"])[scores.argmax(axis=1)]
    assert (found[1::2] == labels[1::2]).all() and (found[::2] != labels[::2]).all()


def test_more_layers_than_there_are(tiny_model: PretrainedModel, make_counts: Any) -> None:
    counts, labels = make_counts(20, 400, seed=1), np.resize(["a", "b"], 20)
    inference, config = Inference(tiny_model), replace(CONFIG, num_layers=3)
    vectors = inference.cell_embeddings(counts)
    with pytest.raises(ConfigError, match="num_layers=3 of an encoder of 2 layers"):
        tune(tiny_model, inference, counts, vectors, labels, config=config, progress=False)


def test_groups_are_held_out_whole(tiny_model: PretrainedModel, make_counts: Any) -> None:
    counts, labels = make_counts(24, 400, seed=1), np.resize(["a", "b"], 24)
    groups = np.repeat(["x", "y", "z", "w"], 6)
    inference = Inference(tiny_model)
    vectors = inference.cell_embeddings(counts)
    found = tune(tiny_model, inference, counts, vectors, labels, config=CONFIG, groups=groups, progress=False)
    assert all(not set(groups[split.train]) & set(groups[split.test]) for split in found.splits)
    with pytest.raises(ConfigError, match="the reference has one group"):
        tune(tiny_model, inference, counts, vectors, labels, config=CONFIG, groups=np.full(24, "x"), progress=False)


def test_batches_that_share_no_label_are_refused(tiny_model: PretrainedModel, make_counts: Any) -> None:
    counts, labels = make_counts(24, 400, seed=1), np.resize(["a", "b"], 24)
    inference = Inference(tiny_model)
    vectors = inference.cell_embeddings(counts)
    two = np.repeat(["x", "y"], 12)
    for batches, groups in ((labels, None), (two, two)):
        with pytest.raises(ConfigError, match="no label is in two batches of the cells that a fold learns from"):
            tune(
                tiny_model, inference, counts, vectors, labels, config=CONFIG, groups=groups, batches=batches,
                progress=False,
            )  # fmt: skip


def test_what_diverges_is_not_kept(tiny_model: PretrainedModel, make_counts: Any) -> None:
    counts, labels = make_counts(24, 400, seed=1), np.resize(["a", "b"], 24)
    inference, config = Inference(tiny_model), replace(CONFIG, peak_lr=1e30, warmup_steps=0, max_epochs=2)
    vectors = inference.cell_embeddings(counts)
    found = tune(tiny_model, inference, counts, vectors, labels, config=config, progress=False)
    assert found.num_epochs == 0 and found.losses[1:] == (np.inf, np.inf)
    np.testing.assert_array_equal(found.embedding, vectors)


@pytest.mark.gpu
def test_what_a_gpu_tuned_reads_the_same_on_a_cpu(tiny_model: PretrainedModel, make_counts: Any) -> None:
    counts, labels = make_counts(30, 400, seed=1), np.resize(["a", "b", "c"], 30)
    inference = Inference(tiny_model, device="cuda")
    vectors, batches = inference.cell_embeddings(counts), np.resize(["x", "y"], 30)
    found = tune(tiny_model, inference, counts, vectors, labels, config=CONFIG, batches=batches, progress=False)
    assert len(found.losses) == 2 and np.isfinite(found.losses).all()
    on_cpu = with_tuned(Inference(tiny_model, device="cpu"), tiny_model, found.weights).cell_embeddings(counts)
    np.testing.assert_allclose(found.embedding, on_cpu, rtol=1e-3, atol=1e-3)
