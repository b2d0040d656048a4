"""Tuning a model to the labels of a reference.

Letters: A cells; G genes of the model; L labels; P width of the embedding.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.sparse import csr_matrix
from scipy.special import softmax

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import FineTuneConfig, Pool
from xtrimogene.data.read_depth import ReadDepth
from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.classifiers import LinearClassifier, variance_of
from xtrimogene.evaluation.splits import any_label_shared
from xtrimogene.inference import Inference
from xtrimogene.long_work import progress_bar
from xtrimogene.model.tail import Tail
from xtrimogene.tasks.annotation.annotator import check_labels, reference_folds
from xtrimogene.tasks.annotation.calibration import fit_temperature
from xtrimogene.tasks.annotation.tuned import Tuned
from xtrimogene.training.fine_tuning import fine_tune
from xtrimogene.training.labelled_cells import LabelledCells, draw_judged
from xtrimogene.training.learner import NO_LABEL, LinearHead

NUM_FOLDS = 3  # each costs as much as learning from all cells


def held_out_loss(scores: Float[np.ndarray, "A L"], label: Int[np.ndarray, " A"]) -> float:
    """Return the Brier score at the best temperature, of cells whose label was learned; labels count alike.

    The temperature is fitted as it will be, so that being merely surer is no better. Unlike a cross-entropy it is
    bounded: of a label with ten cells, one that is lost does not outweigh all others.
    """
    known = np.isfinite(scores[np.arange(len(label)), label])
    if not known.any():
        return np.inf
    scores, label = scores[known], label[known]
    probable = softmax(scores / fit_temperature(scores, label), axis=1)
    missed = np.square(probable - np.eye(scores.shape[1])[label]).sum(axis=1)
    return float(np.average(missed, weights=1 / np.bincount(label)[label]))


def tune(
    model: PretrainedModel,
    inference: Inference,
    counts: csr_matrix,
    embedding: Float[np.ndarray, "A P"],
    labels: Shaped[np.ndarray, " A"],
    *,
    config: FineTuneConfig,
    groups: Shaped[np.ndarray, " A"] | None = None,
    batches: Shaped[np.ndarray, " A"] | None = None,
    pool: Pool | None = None,
    read_depth: str | None = None,
    judge: Callable[[Float[np.ndarray, "A L"], Int[np.ndarray, " A"]], float] = held_out_loss,
    progress: bool = True,
) -> Tuned:
    """Tune the model's last layers on ``inference``'s device; ``embedding`` is what the model makes of the cells now.

    Parameters
    ----------
    groups
        Of which whole ones are held out, as in `Annotator.fit`.
    batches
        Of each cell, for ``config.batch_weight``.
    judge
        Of scores and labels of held-out cells, says what tuning is to make small.

    Raises
    ------
    ConfigError
        ``config.num_layers`` is more than the encoder has; as `check_labels` and `check_batches`; or a fold would learn
        from a single cell.
    """
    check_labels(labels, groups)
    splits = reference_folds(labels, groups, num_folds=NUM_FOLDS, seed=config.seed)
    names, label = np.unique(labels, return_inverse=True)
    fold = np.empty(len(labels), dtype=np.int64)
    for number, split in enumerate(splits):
        fold[split.test] = number
    learned_from = [*(split.train for split in splits), np.arange(len(labels))]
    judged = draw_judged(np.diff(counts.indptr), label, fold, config.judged_tokens, seed=config.seed)
    pooled, depth = pool or model.config.pool, read_depth or model.config.read_depth
    if batches is not None:
        check_batches(labels, batches, learned_from)
    tuned = fine_tune(
        inference.network,
        LabelledCells(
            counts=counts,
            vectors=embedding,
            label=label,
            fold=fold,
            judged=judged,
            batch=None if batches is None else np.unique(batches, return_inverse=True)[1],
        ),
        [_head(embedding[rows], labels[rows], names) for rows in learned_from],
        config,
        pool=pooled,
        depth=ReadDepth.parse(depth),
        judge=lambda vectors: (
            judge(held_out_scores([*vectors], labels[judged], fold[judged]), label[judged])
            if np.isfinite(vectors).all()
            else np.inf
        ),
        progress=progress,
    )
    if not np.argmin(tuned.losses):
        kept = embedding.astype(np.float32)
        return Tuned(
            weights=tuned.weights[-1], embedding=kept, splits=splits, folds=(kept,) * len(splits), losses=tuned.losses
        )
    tail = Tail(inference.network, pooled, num_layers=config.num_layers)
    tails = [tail.with_weights(weights) for weights in tuned.weights]
    with progress_bar("Embedding cells", len(labels), shown=progress) as advance:
        *folds, embedding = inference.tail_embeddings(counts, tails, read_depth=depth, progress=advance)
    return Tuned(weights=tuned.weights[-1], embedding=embedding, splits=splits, folds=tuple(folds), losses=tuned.losses)


def check_batches(
    labels: Shaped[np.ndarray, " A"], batches: Shaped[np.ndarray, " A"], learned_from: Sequence[Int[np.ndarray, " _"]]
) -> None:
    """Refuse batches that could be made alike nowhere, or not where cells are held out.

    Raises
    ------
    ConfigError
        No label is in two batches, in all cells or in those that some fold learns from.
    """
    for rows in learned_from:
        if not any_label_shared(labels[rows], batches[rows]):
            raise ConfigError(
                "no label is in two batches of the cells that a fold learns from, so nothing makes them alike; "
                "leave batch_key out, or hold out other groups."
            )


def held_out_scores(
    embeddings: Sequence[Float[np.ndarray, "A P"]], labels: Shaped[np.ndarray, " A"], fold: Int[np.ndarray, " A"]
) -> Float[np.ndarray, "A L"]:
    """Return what logistic regression says of each fold's cells, learned from the others in the fold's embedding.

    A label that these lack gets -inf.
    """
    names = np.unique(labels)
    scores = np.full((len(labels), len(names)), -np.inf)
    for number, embedding in enumerate(embeddings):
        train, test = embedding[fold != number], np.flatnonzero(fold == number)
        fitted = LinearClassifier.fit(train, labels[fold != number], variance=variance_of(train, "together"))
        scores[np.ix_(test, np.searchsorted(names, fitted.labels))] = fitted.scores(embedding[test])
    return scores


def _head(
    embedding: Float[np.ndarray, "A P"], labels: Shaped[np.ndarray, " A"], names: Shaped[np.ndarray, " L"]
) -> LinearHead:
    fitted = LinearClassifier.fit(embedding, labels, variance=variance_of(embedding, "together"))
    weight, bias = np.zeros((len(names), embedding.shape[1])), np.full(len(names), NO_LABEL)
    places = np.searchsorted(names, fitted.labels)
    weight[places], bias[places] = fitted.weight, fitted.bias
    return LinearHead(center=fitted.center, scale=fitted.scale, weight=weight, bias=bias)
