"""A question with known answers: which cells, labels and splits, and how they come from labelled studies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_matrix, vstack

from xtrimogene.data.gene_panels import panels_of_batches
from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.splits import Split, absent_labels, between_groups, draw_splits

SEEDS = (0, 1, 2)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Study:
    """Labelled cells of one study over the genes of a vocabulary; ``obs`` holds one string per cell under each key."""

    name: str
    counts: csr_matrix
    measured: Bool[np.ndarray, " G"]
    obs: Mapping[str, Shaped[np.ndarray, " N"]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Which cells of a study, under which labels.

    ``rename`` maps the study's labels to the task's; a label it does not name has no counterpart in the other study
    and its cells are left out. Without it labels stay as they are. ``unlabelled`` cells are left out always. ``only``
    = (key, value) keeps the cells with that value.
    """

    study: str
    label_key: str = "cell_type"
    rename: Mapping[str, str] | None = None
    unlabelled: tuple[str, ...] = ("unlabelled",)
    only: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPlan:
    """How a task is made.

    Two sources: learn from the first, test on the second. One: folds by ``grouping``, which is a key of obs or "cell".
    ``num_folds`` deals groups into folds (None: each group is one). ``mixing``: does batch mixing between the groups
    mean something here? ``joined_by``: the key of the batches of an outer join, where a gene is measured in a batch
    if any of its cells has it.
    """

    name: str
    sources: tuple[Source, ...]
    grouping: str = "study"
    num_folds: int | None = None
    mixing: bool = False
    joined_by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Task:
    """Cells, labels and one tuple of splits for each seed; every seed tests the same cells.

    ``genes`` are those measured in every part, the ones the baselines read. ``studies`` and ``rows`` say where each
    cell comes from.
    """

    name: str
    counts: csr_matrix
    genes: Bool[np.ndarray, " G"]
    labels: Shaped[np.ndarray, " N"]
    groups: Shaped[np.ndarray, " N"]
    studies: Shaped[np.ndarray, " N"]
    rows: Int[np.ndarray, " N"]
    splits: tuple[tuple[Split, ...], ...]
    mixing: bool

    @property
    def tested(self) -> Int[np.ndarray, " T"]:
        """Every cell that some split tests, ascending."""
        return np.unique(np.concatenate([split.test for split in self.splits[0]]))

    @property
    def grouping(self) -> str:
        return self.splits[0][0].grouping

    @property
    def unseen_labels(self) -> tuple[str, ...]:
        """Labels that lack training cells in at least one split that tests them; there nothing can predict them."""
        return tuple(
            sorted({label for splits in self.splits for split in splits for label in absent_labels(split, self.labels)})
        )

    def gather(self, embeddings: Mapping[str, Float[np.ndarray, "_ P"]]) -> Float[np.ndarray, "N P"]:
        """Lay embeddings of whole studies, by the study's name, in the order of the task's cells."""
        width = next(iter(embeddings.values())).shape[1]
        gathered = np.empty((len(self.labels), width), dtype=np.float32)
        for study in np.unique(self.studies).tolist():
            here = self.studies == study
            gathered[here] = embeddings[study][self.rows[here]]
        return gathered

    def predict(
        self, predict_split: Callable[[Split, int], Shaped[np.ndarray, " B"]]
    ) -> tuple[Shaped[np.ndarray, " T"], ...]:
        """Collect the predictions of ``tested`` for each seed; ``predict_split`` gets a split and its seed's number."""
        predictions = []
        for number, splits in enumerate(self.splits):
            predicted = np.full(len(self.labels), "", dtype=object)
            for split in splits:
                predicted[split.test] = predict_split(split, number)
            predictions.append(predicted[self.tested].astype(str))
        return tuple(predictions)


def build_task(plan: TaskPlan, studies: Mapping[str, Study], *, seeds: Sequence[int] = SEEDS) -> Task:
    """Choose the cells, name their labels, and split them once for each seed (`draw_splits`)."""
    parts = [_part(source, studies) for source in plan.sources]
    chosen = [studies[source.study] for source in plan.sources]
    labels = np.concatenate([labels for _, labels in parts])
    names = np.concatenate([np.full(len(rows), study.name) for study, (rows, _) in zip(chosen, parts, strict=True)])
    counts = vstack([study.counts[rows] for study, (rows, _) in zip(chosen, parts, strict=True)], format="csr")
    measured = np.logical_and.reduce([study.measured for study in chosen])
    if plan.grouping in ("study", "cell"):
        groups = names
    else:
        groups = np.concatenate(
            [study.obs[plan.grouping][rows] for study, (rows, _) in zip(chosen, parts, strict=True)]
        )
    if plan.joined_by is not None:
        panels, _ = panels_of_batches([(0, counts)], measured, chosen[0].obs[plan.joined_by][parts[0][0]])
        measured = panels.all(axis=0)
    between = None
    if len(plan.sources) == 2:
        between = between_groups(groups, train=plan.sources[0].study, test=plan.sources[1].study)
    return Task(
        name=plan.name,
        counts=counts,
        genes=measured,
        labels=labels,
        groups=groups,
        studies=names,
        rows=np.concatenate([rows for rows, _ in parts]),
        splits=draw_splits(
            labels,
            None if plan.grouping == "cell" else groups,
            seeds,
            grouping=plan.grouping,
            num_folds=plan.num_folds,
            between=between,
        ),
        mixing=plan.mixing,
    )


def _part(source: Source, studies: Mapping[str, Study]) -> tuple[Int[np.ndarray, " n"], Shaped[np.ndarray, " n"]]:
    if source.study not in studies:
        raise ConfigError(f"the study {source.study!r} is needed and was not given; there are {', '.join(studies)}.")
    obs = studies[source.study].obs
    labels = obs[source.label_key]
    kept = ~np.isin(labels, source.unlabelled)
    if source.only is not None:
        kept &= obs[source.only[0]] == source.only[1]
    if source.rename is not None:
        missing = set(source.rename) - set(labels.tolist())
        assert not missing, f"{source.study} has no label {missing}"
        kept &= np.isin(labels, list(source.rename))
        labels = np.array([source.rename.get(label, "") for label in labels])
    rows = np.flatnonzero(kept)
    return rows, labels[rows]
