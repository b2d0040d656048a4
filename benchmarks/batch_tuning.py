"""Do two studies of one reference lie together by type after fine-tuning with batch_key? scIB's scores, held out.

python benchmarks/batch_tuning.py --validation --task ">" --out benchmarks/results/batch_tuning_validation.json

The two studies of each task of embedding_quality.py that goes from one to another are joined to a reference, of the
first about 200 cells, and method "finetune" learns the labels in three folds by cell: without batches, and with the
study as batch. The cells of a fold are scored as the network sees them that learned from the other folds; means over
folds. "start" is the model as it is. So that there is something to compare, tuning goes on for three epochs. Each task
is written to --out as it comes; the same command goes on with those that are not there.
"""

import json
import time
from typing import Any

import numpy as np
from annotation import prepare, read_options, read_report, write_report
from embed import describe_machine
from jaxtyping import Float

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import FineTuneConfig
from xtrimogene.evaluation.integration import integration_scores
from xtrimogene.evaluation.tasks import Task
from xtrimogene.inference import Inference
from xtrimogene.tasks.annotation.learned import draw_cells
from xtrimogene.tasks.annotation.tuned import Tuned
from xtrimogene.tasks.annotation.tuning import tune

FIRST_CELLS, NUM_EPOCHS = 200, 3


def main() -> None:
    options = read_options(__doc__)
    model, _, tasks, placed = prepare(options)
    report = read_report(options, {"sha256": model.sha256, "machine": describe_machine(), "tasks": []})
    done = {one["task"] for one in report["tasks"]}
    for task in tasks:
        if task.grouping == "study" and task.name not in done:
            report["tasks"].append(measure(task, task.gather(placed), model))
            print(json.dumps(report["tasks"][-1], indent=1), flush=True)
            write_report(options, report)


def measure(task: Task, embedding: Float[np.ndarray, "N P"], model: PretrainedModel) -> dict[str, Any]:
    split = task.splits[0][0]
    first = split.train[draw_cells(task.labels[split.train], most=FIRST_CELLS, least_of_label=20)[0]]
    shared = np.intersect1d(task.labels[first], task.labels[split.test])
    rows = np.concatenate([first, split.test])
    rows = rows[np.isin(task.labels[rows], shared)]
    cells, labels, counts = embedding[rows], task.labels[rows], task.counts[rows]
    found: dict[str, Any] = {"task": task.name, "cells": len(rows)}
    for name, batches in (("finetune", None), ("finetune, batch_key", task.studies[rows])):
        began = time.perf_counter()
        tuned = tune_on(model, cells, counts, labels, batches)
        found[name] = scores(tuned.folds, tuned, labels, task.studies[rows])
        found[name]["seconds"] = round(time.perf_counter() - began, 1)
        found.setdefault("start", scores([cells] * len(tuned.folds), tuned, labels, task.studies[rows]))
    return found


def tune_on(model: PretrainedModel, cells: Any, counts: Any, labels: Any, batches: Any) -> Tuned:
    """Tune to the last epoch, whatever held-out cells say of it."""
    falling = iter(range(NUM_EPOCHS + 1, 0, -1))
    return tune(
        model,
        Inference(model),
        counts,
        cells,
        labels,
        config=FineTuneConfig(max_epochs=NUM_EPOCHS),
        batches=batches,
        judge=lambda scores, label: float(next(falling)),
        progress=False,
    )


def scores(embeddings: Any, tuned: Any, labels: Any, studies: Any) -> dict[str, float]:
    of_folds = [
        integration_scores(embedding[split.test], labels[split.test], studies[split.test])
        for embedding, split in zip(embeddings, tuned.splits, strict=True)
    ]
    return {name: float(np.mean([getattr(one, name) for one in of_folds])) for name in ("bio", "batch", "total")}


if __name__ == "__main__":
    main()
