"""The cells of a study: read, matched and embedded once, and made into a task.

Letters: n used cells of a file; N of the task; G genes of the model; P width of the embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.sparse import csr_matrix, vstack

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.cell_hashes import are_among, gene_keys, hash_cells
from xtrimogene.data.gene_panels import panels_of_batches
from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.splits import Split, draw_train, folds_by_cell, folds_by_group
from xtrimogene.evaluation.study import AnnotationStudy
from xtrimogene.evaluation.tasks import Task
from xtrimogene.inference import Inference
from xtrimogene.tl.embedding import read_vectors
from xtrimogene.tl.learning import check_cells
from xtrimogene.tl.study_labels import LabelledFile, read_labelled_files


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StudyCells:
    """The task, its cells' embedding, and what inner folds keep apart (None: cells).

    ``files``: what was used of each. ``num_seen``: the tested cells that the model was trained on; None where that is
    not known.
    """

    task: Task
    embedding: Float[np.ndarray, "N P"]
    inner_groups: Shaped[np.ndarray, " N"] | None
    files: tuple[Mapping[str, Any], ...]
    num_seen: int | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """The used cells of a file; ``measured``: the genes that all of its batches measured."""

    known: LabelledFile
    counts: csr_matrix
    embedding: Float[np.ndarray, "n P"]
    measured: Bool[np.ndarray, " G"]
    num_seen: int | None


def read_study_cells(study: AnnotationStudy, model: PretrainedModel, *, progress: bool = True) -> StudyCells:
    """Check all files, then embed the labelled cells, and split them for each seed.

    Cells to learn from are read in the genes that all test files measured, as `annotate` reads a reference; without
    test files, all cells in the genes that all files measured. A cell without a count in them is not used.
    """
    files = read_labelled_files(study)
    measured = [check_cells(file.path, model, study.min_genes)[0] for file in files]
    against = [one for one, file in zip(measured, files, strict=True) if file.tested]
    shared: Bool[np.ndarray, " G"] = np.logical_and.reduce(against)
    inference = Inference(model, device=study.device)
    parts = []
    for file, own in zip(files, measured, strict=True):
        panel = own if study.test_files and file.tested else shared & own
        parts.append(
            _read_part(
                file, inference, model, panel, study.min_genes, complete=bool((panel == own).all()), progress=progress
            )
        )
    panel = np.logical_and.reduce([part.measured for part in parts])
    counts = vstack([part.counts for part in parts], format="csr")
    kept = np.flatnonzero(np.asarray(counts[:, np.flatnonzero(panel)].sum(axis=1)).ravel() > 0)
    task, inner = _task(study, parts, counts, panel, kept)
    seen = [part.num_seen for part in parts if part.known.tested]
    return StudyCells(
        task=task,
        embedding=np.concatenate([part.embedding for part in parts])[kept],
        inner_groups=inner,
        files=tuple(map(_facts, parts)),
        num_seen=None if None in seen else sum(number for number in seen if number is not None),
    )


def _read_part(
    file: LabelledFile,
    inference: Inference,
    model: PretrainedModel,
    panel: Bool[np.ndarray, " G"],
    min_genes: int,
    *,
    complete: bool,
    progress: bool,
) -> Part:
    """Read a file's used cells in the genes of the panel; ``complete``: these are all that it measured."""
    blocks: list[csr_matrix] = []
    found = read_vectors(
        file.path,
        inference,
        model,
        min_genes=min_genes,
        progress=progress,
        only=file.used,
        panel=panel,
        each=lambda block, _: blocks.append(block),
    )
    counts, measured = vstack(blocks, format="csr"), found.measured
    if file.batches is not None:
        panels, _ = panels_of_batches([(0, counts)], measured, file.batches[file.used])
        measured = np.asarray(panels.all(axis=0))
    num_seen = None
    if model.cell_hashes is not None and complete:
        num_seen = int(are_among(hash_cells(counts, gene_keys(model.genes)), model.cell_hashes).sum())
    return Part(known=file, counts=counts, embedding=found.embedding[file.used], measured=measured, num_seen=num_seen)


def _task(
    study: AnnotationStudy,
    parts: Sequence[Part],
    counts: csr_matrix,
    panel: Bool[np.ndarray, " G"],
    kept: Shaped[np.ndarray, " N"],
) -> tuple[Task, Shaped[np.ndarray, " N"] | None]:
    """Return the task of the kept cells, and what inner folds keep apart."""
    used = [part.known.used for part in parts]
    studies = np.repeat([part.known.name for part in parts], [int(one.sum()) for one in used])[kept]
    tested = np.repeat([part.known.tested for part in parts], [int(one.sum()) for one in used])[kept]
    labels = np.concatenate([part.known.labels[one] for part, one in zip(parts, used, strict=True)])[kept]
    apart = studies
    if study.group_key is not None:
        own = [part.known.name if part.known.groups is None else part.known.groups for part in parts]
        apart = np.concatenate([np.broadcast_to(one, here.shape)[here] for one, here in zip(own, used, strict=True)])[
            kept
        ]
    learned, asked = (list(dict.fromkeys(studies[where].tolist())) for where in (~tested, tested))
    name = " + ".join(asked)
    task = Task(
        name=f"{' + '.join(learned)} -> {name}" if study.test_files else f"{name} by {study.grouping}",
        counts=counts[kept],
        genes=panel,
        labels=labels,
        groups=apart,
        studies=studies,
        rows=np.concatenate([np.flatnonzero(one) for one in used])[kept],
        splits=tuple(_splits(study, labels, apart, tested, seed) for seed in study.seeds),
        mixing=False,
    )
    grouped = study.split != "cell" and (study.group_key is not None or len(study.files) > 1)
    return task, apart if grouped else None


def _splits(
    study: AnnotationStudy,
    labels: Shaped[np.ndarray, " N"],
    groups: Shaped[np.ndarray, " N"],
    tested: Bool[np.ndarray, " N"],
    seed: int,
) -> tuple[Split, ...]:
    """Split as `build_task` does: where nothing is random, a seed draws 90 % of the training cells."""
    if study.split == "cell":
        return folds_by_cell(labels, num_folds=study.num_folds or 5, seed=seed)
    if study.test_files:
        train, test = np.flatnonzero(~tested), np.flatnonzero(tested)
        return (draw_train(Split(name="study", train=train, test=test, grouping="study"), labels, seed=seed),)
    if len(np.unique(groups)) < 2:
        raise ConfigError(
            f"all cells belong to the {study.grouping} {str(groups[0])!r}; two are needed, to learn from and to test "
            'on. Give another group_key, or ask for split = "cell".'
        )
    splits = folds_by_group(groups, labels, grouping=study.grouping, num_folds=study.num_folds, seed=seed)
    return splits if study.num_folds is not None else tuple(draw_train(one, labels, seed=seed) for one in splits)


def _facts(part: Part) -> dict[str, Any]:
    known = part.known
    return {
        "file": Path(known.path).name,
        "cells": len(known.used),
        "cells_used": int(known.used.sum()),
        "genes": int(part.measured.sum()),
        "tested": known.tested,
    }
