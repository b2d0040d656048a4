"""A study of annotation on labelled files: read, run, judge."""

from importlib.metadata import version
from typing import Any

import numpy as np

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.evaluation.annotation_result import AnnotationResult, judge_trials
from xtrimogene.evaluation.outside.methods import outside_runs
from xtrimogene.evaluation.study import PACKAGES, AnnotationStudy
from xtrimogene.evaluation.trials import run_trials
from xtrimogene.long_work import progress_bar
from xtrimogene.tasks.annotation.annotator import check_options
from xtrimogene.tl.study_cells import StudyCells, read_study_cells
from xtrimogene.tl.study_methods import EMBEDDING, annotate_name, model_runs, ours_of


def annotation(study: AnnotationStudy, *, progress: bool = True) -> AnnotationResult:
    """Annotate labelled cells that were held out, with the model and with what must stand beside it.

    Every method learns from the training cells of each split alone, and chooses what there is to choose on inner folds
    of them; one whose name ends in a star has seen the counts of the test cells too. Those of `annotate` learn as it
    does, from 20,000 cells drawn of more. `report` writes the result down.

    Raises
    ------
    ConfigError
        No such method of `annotate`; a label that no cell has; groups that cannot be held out.
    FieldError
        No such column, or it holds decimal numbers.
    CheckpointError, CountsError, GeneMatchError, FileFormatError
        As in `xtrimogene.tl.embed`.

    Warns
    -----
    UserWarning
        As in `xtrimogene.tl.embed`; cells are not used since their label is "unknown" or they have no group.
    """
    for method in study.methods:
        check_options(method=method)
    model = load(study.model)
    cells = read_study_cells(study, model, progress=progress)
    task = cells.task
    outside, not_run = outside_runs(study, task)
    runs = [*model_runs(study, task, cells.embedding, model), *outside]
    total = len(runs) * sum(map(len, task.splits))
    with progress_bar("Running methods", total, shown=progress) as advance:
        trials = run_trials(
            task,
            runs,
            groups=cells.inner_groups,
            group_name=study.group_key or "study",
            num_inner_folds=study.num_inner_folds,
            seeds=study.seeds,
            advance=advance,
        )
    return judge_trials(
        study,
        task,
        trials,
        ours=ours_of(study),
        own=(annotate_name(study), EMBEDDING),
        facts=_facts(study, model, cells),
        not_run=not_run,
    )


def _facts(study: AnnotationStudy, model: PretrainedModel, cells: StudyCells) -> dict[str, Any]:
    task = cells.task
    return {
        "model": model.name,
        "sha256": model.sha256,
        "files": [dict(one) for one in cells.files],
        "cells": len(task.labels),
        "genes": int(task.genes.sum()),
        "groups": np.unique(task.groups).tolist(),
        "splits": [split.name for split in task.splits[0]],
        "seeds": list(study.seeds),
        "strengths": list(study.strengths),
        "epochs": study.epochs,
        "error_rate": study.error_rate,
        "tested_cells_seen_in_pretraining": cells.num_seen,
        "versions": _versions(study),
    }


def _versions(study: AnnotationStudy) -> dict[str, str]:
    names = ["xtrimogene", "scikit-learn", *(PACKAGES[name][1] for name in study.outside_run)]
    return {name: version(name) for name in dict.fromkeys(names)}
