"""Fine-tuning: what a tail may learn from, when it stops, what batches do."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import vstack

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import FineTuneConfig
from xtrimogene.data.read_depth import ReadDepth
from xtrimogene.errors import ConfigError
from xtrimogene.inference import Inference
from xtrimogene.model.tail import with_weights
from xtrimogene.training.fine_tuning import FineTuned, FineTuning, _weights, fine_tune
from xtrimogene.training.labelled_cells import CellBatches, LabelledCells
from xtrimogene.training.learner import LinearHead

CONFIG = FineTuneConfig(peak_lr=3e-3, head_lr=1e-2, step_tokens=400, steps_per_epoch=5, max_epochs=3, averaging=0.5)
DEPTH = ReadDepth.parse("f1")
Judge = Callable[[np.ndarray], float]


@pytest.fixture
def cells(tiny_model: PretrainedModel, make_counts: Any) -> LabelledCells:
    """Return 40 cells of two labels, which twenty genes tell apart, in two folds and two batches."""
    counts = make_counts(40, 400, density=0.1, seed=1).tolil()
    for cell in range(40):
        counts[cell, slice(0, 20) if cell % 2 else slice(20, 40)] = 8
    places = np.arange(40)
    packed = counts.tocsr().astype(np.float32)
    vectors = Inference(tiny_model).cell_embeddings(packed)
    return LabelledCells(counts=packed, vectors=vectors, label=places % 2, fold=places // 20, judged=places)


def head(num_labels: int = 2, width: int = 12) -> LinearHead:
    weight, bias = np.zeros((num_labels, width)), np.zeros(num_labels)
    return LinearHead(center=np.zeros(width), scale=np.ones(width), weight=weight, bias=bias)


def tuned(
    model: PretrainedModel, cells: LabelledCells, config: FineTuneConfig = CONFIG, judge: Judge | None = None
) -> FineTuned:
    answers = judge or (lambda vectors: not_apart(vectors, cells))
    return fine_tune(
        model.network,
        cells,
        [head()] * 3,
        config,
        pool="latent",
        depth=DEPTH,
        judge=answers,
        progress=False,
    )


def not_apart(vectors: np.ndarray, cells: LabelledCells) -> float:
    """Return how many times as far as the labels are apart the held-out cells lie from the mean of their label."""
    found = []
    for number, own in enumerate(vectors):
        taught, held_out = cells.taught(number), cells.fold == number
        means = np.stack([own[taught & (cells.label == label)].mean(axis=0) for label in (0, 1)])
        spread = np.linalg.norm(own[held_out] - means[cells.label[held_out]], axis=1).mean()
        found.append(spread / np.linalg.norm(means[0] - means[1]))
    return float(np.mean(found))


def in_turn(losses: Sequence[float]) -> Judge:
    left = iter(losses)
    return lambda vectors: next(left)


def test_held_out_cells_are_told_apart_better(tiny_model: PretrainedModel, cells: LabelledCells) -> None:
    before = {name: weight.clone() for name, weight in tiny_model.network.state_dict().items()}
    found = tuned(tiny_model, cells, replace(CONFIG, steps_per_epoch=15, peak_lr=1e-2))
    assert min(found.losses) < 0.5 * found.losses[0]
    assert len(found.weights) == 3
    assert all(torch.equal(weight, before[name]) for name, weight in tiny_model.network.state_dict().items())
    again = tuned(tiny_model, cells, replace(CONFIG, steps_per_epoch=15, peak_lr=1e-2))
    assert found.losses == again.losses


def test_a_tail_never_learns_from_its_fold(tiny_model: PretrainedModel, cells: LabelledCells) -> None:
    """The first fold's cells get other genes, and as many."""
    turned = vstack([cells.counts[:20][:, ::-1], cells.counts[20:]], format="csr")
    found, other = (
        tuned(tiny_model, replace(cells, counts=counts), CONFIG, in_turn([4.0, 3.0, 2.0, 1.0]))
        for counts in (cells.counts, turned)
    )
    same = [
        all(torch.equal(first[name], second[name]) for name in first)
        for first, second in zip(found.weights, other.weights, strict=True)
    ]
    assert same == [True, False, False]


def test_the_vectors_judged_are_those_of_the_weights_kept(tiny_model: PretrainedModel, cells: LabelledCells) -> None:
    seen: list[np.ndarray] = []

    def judge(vectors: np.ndarray) -> float:
        seen.append(vectors.copy())
        return -float(len(seen))

    some = np.arange(0, 40, 3)
    found = tuned(tiny_model, replace(cells, judged=some), judge=judge)
    assert len(seen) == 1 + CONFIG.max_epochs and seen[0].shape == (2, 14, 12)
    for number in range(2):
        np.testing.assert_allclose(seen[0][number], cells.vectors[some], rtol=1e-5, atol=1e-5)
        reader = Inference(replace(tiny_model, network=with_weights(tiny_model.network, found.weights[number])))
        np.testing.assert_allclose(seen[-1][number], reader.cell_embeddings(cells.counts[some]), rtol=1e-4, atol=1e-4)
    assert np.abs(seen[-1][0] - seen[-1][1]).max() > 1e-3


@pytest.mark.parametrize(
    ("losses", "asked"), [([1.0, 2.0, 3.0, 4.0, 5.0], 3), ([3.0, 1.0, 2.0, 2.0, 2.0], 4), ([5.0, 4.0, 3.0, 2.0], 4)]
)
def test_the_best_epoch_is_kept(
    losses: list[float], asked: int, tiny_model: PretrainedModel, cells: LabelledCells
) -> None:
    """`asked` counts the answer before training; two epochs without a better one end it."""
    config = replace(CONFIG, patience=2)
    found = tuned(tiny_model, cells, config, in_turn(losses))
    assert list(found.losses) == losses[:asked]
    best = int(np.argmin(losses[:asked]))
    for weights in found.weights:
        same = all(torch.equal(weights[name], tiny_model.network.state_dict()[name]) for name in weights)
        assert same == (best == 0)
    if best:
        shorter = tuned(tiny_model, cells, replace(config, max_epochs=best), in_turn([9.0, 8.0, 7.0, 6.0][: best + 1]))
        for one, other in zip(found.weights, shorter.weights, strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_loss_is_of_labels_alike_and_of_distance_from_other_batches(
    tiny_model: PretrainedModel, cells: LabelledCells
) -> None:
    """By hand: 30 cells of label 0 in batches 0 and 1, 10 of label 1 in batch 0 alone, which has no other to go to."""
    uneven = replace(cells, label=np.arange(40) // 30, batch=np.where(np.arange(40) < 15, 1, 0), fold=np.arange(40) % 2)
    random = np.random.default_rng(0)
    begun = LinearHead(
        center=random.normal(size=12),
        scale=np.full(12, 2.0),
        weight=random.normal(size=(2, 12)),
        bias=random.normal(size=2),
    )
    for batch_weight in (0.0, 3.0):
        config = replace(CONFIG, batch_weight=batch_weight)
        module = FineTuning(tiny_model.network, uneven, [begun] * 3, config, pool="latent", judge=lambda vectors: 0.0)
        learner = module.learners[2]
        batches = CellBatches(tiny_model.network, uneven, replace(config, step_tokens=10_000), DEPTH, training=False)
        (batch,) = batches
        label, lane = (torch.from_numpy(column[batch.rows]) for column in (uneven.label, uneven.batch))
        loss = learner.loss(batch, label, lane).item()
        x = (uneven.vectors - begun.center) / 2.0
        scores = torch.from_numpy(x @ begun.weight.T + begun.bias)
        each = torch.nn.functional.cross_entropy(scores, torch.from_numpy(uneven.label), reduction="none").numpy()
        first, second = x[:15].mean(axis=0), x[15:30].mean(axis=0)
        apart = np.concatenate([x[:15] - second, x[15:30] - first, np.zeros((10, 12))])
        each += 0.5 * batch_weight * (apart**2).mean(axis=1)
        wanted = each.mean()
        assert loss == pytest.approx(wanted, rel=1e-4)
    moved = learner.means[0, 1].numpy()
    np.testing.assert_allclose(moved, first, rtol=1e-3, atol=1e-4)  # the running mean of the same vectors
    assert learner.means[1, 1].isnan().all()


def test_labels_count_alike_for_a_learner_that_lacks_a_part_of_one(tiny_model: PretrainedModel) -> None:
    """By hand: of label 0 a third is held out, of label 1 nothing, of label 2 everything."""
    label, taught = np.repeat([0, 1, 2], 6), np.array([True] * 4 + [False] * 2 + [True] * 6 + [False] * 6)
    np.testing.assert_allclose(_weights(label, taught), [1.25, 5 / 6, 0], rtol=1e-6)


def test_batches_come_to_look_alike(tiny_model: PretrainedModel, cells: LabelledCells) -> None:
    """A shift of twenty genes in every second pair of cells is what the adversary sees; labels stay apart."""
    batch = np.arange(40) // 2 % 2
    counts = cells.counts.tolil()
    for cell in np.flatnonzero(batch):
        counts[cell, 100:120] = 8
    packed = counts.tocsr().astype(np.float32)
    shifted = replace(cells, counts=packed, vectors=Inference(tiny_model).cell_embeddings(packed))
    config = replace(CONFIG, peak_lr=1e-2, steps_per_epoch=25, batch_weight=3.0)

    def apart(batches: np.ndarray | None) -> tuple[float, float]:
        found = tuned(tiny_model, replace(shifted, batch=batches), config, in_turn([4.0, 3.0, 2.0, 1.0]))
        reader = Inference(replace(tiny_model, network=with_weights(tiny_model.network, found.weights[-1])))
        vectors = reader.cell_embeddings(shifted.counts)

        def gap(sides: np.ndarray) -> float:
            return float(np.linalg.norm(vectors[sides == 0].mean(axis=0) - vectors[sides == 1].mean(axis=0)))

        return gap(batch), gap(cells.label)

    (plain, _), (alike, label) = apart(None), apart(batch)
    assert alike < 0.5 * plain and label > 10 * alike


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_layers", 0), ("max_epochs", 0), ("peak_lr", 0.0), ("averaging", 1.0), ("batch_weight", -1.0)],
)
def test_options_that_cannot_be(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"fine-tuning: {name}={value} must"):
        FineTuneConfig(**{name: value})
