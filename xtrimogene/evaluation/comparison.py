"""Score an embedding on a task, beside the baselines, on the same cells, splits and seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.baselines import HvgPca, joint_hvg_pca, logistic_regression, majority
from xtrimogene.evaluation.bootstrap import Interval, Verdict, macro_f1_difference, macro_f1_interval
from xtrimogene.evaluation.classifiers import CLASSIFIERS, Classifier, Scaling, classify
from xtrimogene.evaluation.metrics import (
    ClassScore,
    ClusterScores,
    accuracy,
    batch_mixing,
    cluster_scores,
    mean_scores,
    per_class,
)
from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.tasks import Task

Predictions = tuple[Shaped[np.ndarray, " T"], ...]  # one for each seed
Embedding = Float[np.ndarray, "_ P"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """What the labels are read from, and how; the most frequent label has no classifier."""

    features: str
    classifier: str | None

    def __str__(self) -> str:
        return f"{self.features}, {self.classifier}" if self.classifier else self.features


JOINT_PCA = "joint HVG + PCA"
ALL_GENES = Method(features="all genes", classifier="linear")
MAJORITY = Method(features="most frequent label", classifier=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """What an embedding is worth without a classifier, mean over seeds; no ``mixing`` where no batches are to mix."""

    clusters: ClusterScores
    mixing: float | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Baselines:
    """Predictions of each baseline, and the joint PCA of all cells of the task as a space."""

    predictions: Mapping[Method, Predictions]
    space: Space


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodScore:
    """``per_class`` is that of the first seed."""

    method: Method
    macro_f1: Interval
    accuracy: float
    per_class: tuple[ClassScore, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Macro-F1 of ``method`` minus that of ``baseline``."""

    method: Method
    baseline: Method
    macro_f1: Interval
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskResult:
    task: str
    grouping: str
    num_tested: int
    labels: tuple[str, ...]
    unseen_labels: tuple[str, ...]
    scores: tuple[MethodScore, ...]
    differences: tuple[Difference, ...]
    spaces: Mapping[str, Space]


def run_baselines(task: Task) -> Baselines:
    """Predict with every baseline, as `predict_baselines`, and place all cells by PCA."""
    counts = task.counts[:, np.flatnonzero(task.genes)]
    spaces = [HvgPca.fit(counts, seed=seed).transform(counts) for seed in range(len(task.splits))]
    return Baselines(predictions=predict_baselines(task), space=embedding_space(task, spaces))


def predict_baselines(task: Task) -> dict[Method, Predictions]:
    """Predict with every baseline from the counts of the genes that all parts of the task measured.

    The joint PCA, which sees the test counts, is run only from one study to another.
    """
    counts = task.counts[:, np.flatnonzero(task.genes)]
    labels = task.labels

    def place(split: Split, seed: int) -> tuple[Embedding, Embedding]:
        fitted = HvgPca.fit(counts[split.train], seed=seed)
        return fitted.transform(counts[split.train]), fitted.transform(counts[split.test])

    def place_jointly(split: Split, seed: int) -> tuple[Embedding, Embedding]:
        return joint_hvg_pca(counts[split.train], counts[split.test], seed=seed)

    def read_all_genes(split: Split, seed: int) -> Shaped[np.ndarray, " B"]:
        return logistic_regression(counts[split.train], labels[split.train], counts[split.test])

    predictions = _classify_placed(task, "HVG + PCA", place, scaling="each")
    if task.grouping == "study":
        predictions |= _classify_placed(task, JOINT_PCA, place_jointly, scaling="each")
    predictions[ALL_GENES] = task.predict(read_all_genes)
    predictions[MAJORITY] = task.predict(lambda split, seed: majority(labels[split.train], len(split.test)))
    return predictions


def compare(
    task: Task, embeddings: Mapping[str, Sequence[Embedding]], known: Baselines, *, num_resamples: int = 2000
) -> TaskResult:
    """Score embeddings of the task's cells beside its baselines.

    ``embeddings`` holds, by name, one array for each seed or one for all. The first name is the one that is judged;
    the others (the same network with random weights) are baselines too. Each classifier is compared with the same
    classifier on other features and with the most frequent label.
    """
    predictions, spaces = dict[Method, Predictions](), dict[str, Space]()
    for features, arrays in embeddings.items():
        by_seed = _for_each_seed(features, arrays, task)

        def place(split: Split, seed: int, by_seed: list[Embedding] = by_seed) -> tuple[Embedding, Embedding]:
            return by_seed[seed][split.train], by_seed[seed][split.test]

        predictions |= _classify_placed(task, features, place)
        spaces[features] = embedding_space(task, arrays)
    predictions |= known.predictions
    judged = [method for method in predictions if method.features == next(iter(embeddings), None)]
    pairs = [
        (method, other)
        for method in judged
        for other in predictions
        if other not in judged and other.classifier in (method.classifier, None)
    ]
    spaces[JOINT_PCA] = known.space
    return judge(task, predictions, pairs, spaces=spaces, num_resamples=num_resamples)


def judge(
    task: Task,
    predictions: Mapping[Method, Predictions],
    pairs: Sequence[tuple[Method, Method]],
    *,
    spaces: Mapping[str, Space] | None = None,
    num_resamples: int = 2000,
) -> TaskResult:
    """Score predictions of the task's tested cells; of each pair, the first is compared with the second."""
    truth = task.labels[task.tested]
    return TaskResult(
        task=task.name,
        grouping=task.grouping,
        num_tested=len(truth),
        labels=tuple(np.unique(truth).tolist()),
        unseen_labels=task.unseen_labels,
        scores=tuple(_score(truth, method, predicted, num_resamples) for method, predicted in predictions.items()),
        differences=tuple(_difference(truth, predictions, method, other, num_resamples) for method, other in pairs),
        spaces=spaces or {},
    )


def embedding_space(task: Task, embeddings: Sequence[Embedding]) -> Space:
    """Cluster the tested cells (k-means with each seed) and measure batch mixing over all cells of the task."""
    labels, tested = task.labels, task.tested
    clusters = [
        cluster_scores(embeddings[seed % len(embeddings)][tested], labels[tested], seed=seed)
        for seed in range(len(task.splits))
    ]
    mixing = [batch_mixing(embedding, labels, task.groups) for embedding in embeddings] if task.mixing else []
    return Space(clusters=mean_scores(clusters), mixing=float(np.mean(mixing)) if np.isfinite(mixing).any() else None)


def _classify_placed(
    task: Task,
    features: str,
    place: Callable[[Split, int], tuple[Embedding, Embedding]],
    *,
    scaling: Scaling = "together",
) -> dict[Method, Predictions]:
    placed = {(seed, split.name): place(split, seed) for seed, splits in enumerate(task.splits) for split in splits}

    def predict(classifier: Classifier) -> Predictions:
        def predict_split(split: Split, seed: int) -> Shaped[np.ndarray, " B"]:
            train, test = placed[seed, split.name]
            return classify(train, task.labels[split.train], test, classifier=classifier, scaling=scaling)

        return task.predict(predict_split)

    return {Method(features=features, classifier=classifier): predict(classifier) for classifier in CLASSIFIERS}


def _for_each_seed(features: str, embeddings: Sequence[Embedding], task: Task) -> list[Embedding]:
    num_seeds, num_cells = len(task.splits), len(task.labels)
    if len(embeddings) not in (1, num_seeds) or any(len(embedding) != num_cells for embedding in embeddings):
        raise ConfigError(
            f"the embedding {features!r} of {task.name!r} has arrays of {[len(array) for array in embeddings]} rows; "
            f"give one array or one for each of {num_seeds} seeds, with a row for each of the {num_cells} cells."
        )
    return [embeddings[seed % len(embeddings)] for seed in range(num_seeds)]


def _score(truth: Shaped[np.ndarray, " T"], method: Method, predicted: Predictions, num_resamples: int) -> MethodScore:
    return MethodScore(
        method=method,
        macro_f1=macro_f1_interval(truth, predicted, num_resamples=num_resamples),
        accuracy=float(np.mean([accuracy(truth, one) for one in predicted])),
        per_class=per_class(truth, predicted[0]),
    )


def _difference(
    truth: Shaped[np.ndarray, " T"],
    predictions: Mapping[Method, Predictions],
    ours: Method,
    other: Method,
    num_resamples: int,
) -> Difference:
    interval = macro_f1_difference(truth, predictions[ours], predictions[other], num_resamples=num_resamples)
    return Difference(method=ours, baseline=other, macro_f1=interval, verdict=interval.verdict)
