"""The cells of a study: read, matched and embedded once, and made into a task.

Letters: n used cells of a file; N of the task; G genes of the model; P width of the embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_matrix, vstack

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.cell_hashes import are_among, gene_keys, hash_cells
from xtrimogene.data.gene_panels import panels_of_batches
from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.splits import Split, draw_splits
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
    """The used cells of a file, by their ``rows`` in it; ``measured``: the genes that all of its batches measured.

    ``seen``: the model was trained on the cell; None where that is not known.
    """

    known: LabelledFile
    rows: Int[np.ndarray, " n"]
    counts: csr_matrix
    embedding: Float[np.ndarray, "n P"]
    measured: Bool[np.ndarray, " G"]
    seen: Bool[np.ndarray, " n"] | None

    def with_counts_in(self, panel: Bool[np.ndarray, " G"]) -> "Part":
        """Leave out the cells that have no count in these genes."""
        kept = np.asarray(self.counts[:, np.flatnonzero(panel)].sum(axis=1)).ravel() > 0
        return replace(
            self,
            rows=self.rows[kept],
            counts=self.counts[kept],
            embedding=self.embedding[kept],
            seen=None if self.seen is None else self.seen[kept],
        )


def read_study_cells(study: AnnotationStudy, model: PretrainedModel, *, progress: bool = True) -> StudyCells:
    """Check all files, then embed the labelled cells, and split them for each seed.

    Cells to learn from are read in the genes that all test files measured, as `annotate` reads a reference; without
    test files, all cells in the genes that all files measured. A cell without a count in them is not used.
    """
    files = read_labelled_files(study)
    _lay_out(study, [(file, np.flatnonzero(file.used)) for file in files])
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
    parts = [part.with_counts_in(panel) for part in parts]
    task, inner = _task(study, parts, panel)
    asked = [part for part in parts if part.known.tested]
    seen = [int(part.seen.sum()) for part in asked if part.seen is not None]
    return StudyCells(
        task=task,
        embedding=np.concatenate([part.embedding for part in parts]),
        inner_groups=inner,
        files=tuple(map(_facts, parts)),
        num_seen=sum(seen) if len(seen) == len(asked) else None,
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
    seen = None
    if model.cell_hashes is not None and complete:
        seen = are_among(hash_cells(counts, gene_keys(model.genes)), model.cell_hashes)
    return Part(
        known=file,
        rows=np.flatnonzero(file.used),
        counts=counts,
        embedding=found.embedding[file.used],
        measured=measured,
        seen=seen,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layout:
    """Of all cells their label, study and what is kept apart, and the splits of each seed."""

    labels: Shaped[np.ndarray, " N"]
    studies: Shaped[np.ndarray, " N"]
    apart: Shaped[np.ndarray, " N"]
    splits: tuple[tuple[Split, ...], ...]


def _lay_out(study: AnnotationStudy, cells: Sequence[tuple[LabelledFile, Int[np.ndarray, " _"]]]) -> Layout:
    """Split these rows of the files; refuse what nothing can be learned or tested of."""
    labels = np.concatenate([file.labels[rows] for file, rows in cells])
    studies = np.concatenate([np.full(len(rows), file.name) for file, rows in cells])
    tested = np.concatenate([np.full(len(rows), file.tested) for file, rows in cells])
    apart = studies
    if study.group_key is not None:
        apart = np.concatenate(
            [np.full(len(rows), file.name) if file.groups is None else file.groups[rows] for file, rows in cells]
        )
    by_cell, between = study.split == "cell", None
    if study.test_files:
        between = Split(name="study", train=np.flatnonzero(~tested), test=np.flatnonzero(tested), grouping="study")
    elif not by_cell and len(np.unique(apart)) < 2:
        raise ConfigError(
            f"all cells belong to the {study.grouping} {str(apart[0])!r}; two are needed, to learn from and to test "
            'on. Give another group_key, or ask for split = "cell".'
        )
    splits = draw_splits(
        labels,
        None if by_cell else apart,
        study.seeds,
        grouping=study.grouping,
        num_folds=study.num_folds,
        between=between,
    )
    for split in chain.from_iterable(splits):
        learned, asked = set(labels[split.train].tolist()), set(labels[split.test].tolist())
        if len(learned) < 2:
            raise ConfigError(
                f"the split {split.name!r} leaves cells of {len(learned)} label to learn from; two are needed. Look at "
                "labels and left_out, or hold out other groups (group_key, num_folds)."
            )
        if study.test_files and not learned & asked:
            raise ConfigError(
                f"no label that is tested ({', '.join(sorted(asked))}) is one of those learned from "
                f"({', '.join(sorted(learned))}); say in [labels] which are the same."
            )
    return Layout(labels=labels, studies=studies, apart=apart, splits=splits)


def _task(
    study: AnnotationStudy, parts: Sequence[Part], panel: Bool[np.ndarray, " G"]
) -> tuple[Task, Shaped[np.ndarray, " N"] | None]:
    """Return the task of all cells, and what inner folds keep apart."""
    layout = _lay_out(study, [(part.known, part.rows) for part in parts])
    learned, asked = ([part.known.name for part in parts if part.known.tested == tested] for tested in (False, True))
    name = " + ".join(asked)
    task = Task(
        name=f"{' + '.join(learned)} -> {name}" if study.test_files else f"{name} by {study.grouping}",
        counts=vstack([part.counts for part in parts], format="csr"),
        genes=panel,
        labels=layout.labels,
        groups=layout.apart,
        studies=layout.studies,
        rows=np.concatenate([part.rows for part in parts]),
        splits=layout.splits,
        mixing=False,
    )
    grouped = study.split != "cell" and (study.group_key is not None or len(study.files) > 1)
    return task, layout.apart if grouped else None


def _facts(part: Part) -> dict[str, Any]:
    known = part.known
    return {
        "file": Path(known.path).name,
        "cells": len(known.used),
        "cells_used": len(part.rows),
        "genes": int(part.measured.sum()),
        "tested": known.tested,
    }
