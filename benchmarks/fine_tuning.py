r"""Does training a model's last layers on labels beat reading its embedding as it is? Method "finetune" of annotate.

python benchmarks/fine_tuning.py --validation --task "^wu2021 -> zil" \
    --out benchmarks/results/fine_tuning_validation.json
python benchmarks/fine_tuning.py --test --outside --task "^(pbmc3k|wu|baron|sc_)" \
    --out benchmarks/results/fine_tuning_test.json

The tasks are those of embedding_quality.py. "finetune" stands beside "ensemble" and "linear", which have the same folds
and calibration and leave the model as it is, and beside the baselines. Training takes minutes to an hour a split on a
CPU, so each is written to --out as it comes, and the same command goes on with those that are not there; intervals are
those of a bootstrap over cells and the seeds done. Seconds are of the CPU.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from typing import Any

import numpy as np
from annotation import (
    ALIGNED,
    aligned_pca,
    groups_of,
    others_of,
    prepare,
    read_options,
    read_report,
    to_text,
    write_report,
)
from embed import describe_machine
from jaxtyping import Float

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import FineTuneConfig
from xtrimogene.evaluation.comparison import Method, Predictions, TaskResult, judge
from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.tasks import Study, Task
from xtrimogene.inference import Inference
from xtrimogene.tasks.annotation.annotator import Annotator
from xtrimogene.tasks.annotation.learned import AnnotationMethod
from xtrimogene.tasks.annotation.tuned import Tuned, with_tuned
from xtrimogene.tasks.annotation.tuning import tune

METHODS: tuple[AnnotationMethod, ...] = ("finetune", "ensemble", "linear")
Remembered = dict[str, Tuned]  # tasks share references; by what was learned from


def main() -> None:
    options = read_options(__doc__, outside=True)
    model, studies, tasks, placed = prepare(options)
    report = read_report(options, {"sha256": model.sha256, "machine": describe_machine(), "tasks": {}})
    for seed in range(3):
        remembered: Remembered = {}
        for task in tasks:
            done = report["tasks"].setdefault(task.name, {"seeds": []})
            if len(done["seeds"]) <= seed:
                embedding, splits = task.gather(placed), done.setdefault("unfinished", [])
                for split in task.splits[seed][len(splits) :]:
                    splits.append(measure(task, studies, embedding, model, split, seed, remembered))
                    write_report(options, report)
                done["seeds"].append(joined(task, seed, done.pop("unfinished")))
            elif len(done["seeds"]) > seed + 1:
                continue
            others = others_of(task, studies, options)  # they may be new
            others[ALIGNED] = aligned_pca(task, task.gather(placed))
            result = judged(task, done["seeds"], others)
            done["result"] = {**asdict(result), "spaces": None}
            print(to_text(result, {}), f"  epochs {done['seeds'][seed]['epochs']}", sep="\n", flush=True)
            write_report(options, report)


def measure(
    task: Task,
    studies: Mapping[str, Study],
    embedding: Float[np.ndarray, "N P"],
    model: PretrainedModel,
    split: Split,
    seed: int,
    remembered: Remembered,
) -> dict[str, Any]:
    """Return the number of the label that each method gives each cell of the split, and how tuning went."""
    names = np.unique(task.labels)
    facts: dict[str, Any] = {"given": {}}
    for method in METHODS:
        began = time.process_time()
        labels, losses = answer(task, studies, embedding, model, split, method, seed, remembered)
        facts["given"][method] = np.searchsorted(names, labels).tolist()
        if losses:
            facts["epochs"] = int(np.argmin(losses))
            facts["losses"] = [round(loss, 4) for loss in losses]
            facts["seconds"] = round(time.process_time() - began, 1)
    return facts


def joined(task: Task, seed: int, splits: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the splits of a seed say, and the labels in the order of the tested cells."""
    told: dict[str, Any] = {"seed": seed}
    told |= {name: [one[name] for one in splits] for name in ("epochs", "losses", "seconds")}
    order = np.argsort(np.concatenate([split.test for split in task.splits[seed]]))
    given = {method: np.concatenate([one["given"][method] for one in splits])[order].tolist() for method in METHODS}
    return {**told, "given": given}


def answer(
    task: Task,
    studies: Mapping[str, Study],
    embedding: Float[np.ndarray, "N P"],
    model: PretrainedModel,
    split: Split,
    method: AnnotationMethod,
    seed: int,
    remembered: Remembered,
) -> tuple[np.ndarray, tuple[float, ...]]:
    labels, groups = task.labels[split.train], groups_of(task, studies, split.train)
    counts, asked_counts = task.counts[split.train], task.counts[split.test]
    cells, asked, tuned = embedding[split.train], embedding[split.test], None
    if method == "finetune":
        inference, config = Inference(model), FineTuneConfig(seed=seed)
        learned_from = sha256(cells.tobytes() + labels.tobytes()).hexdigest()
        if learned_from not in remembered:
            remembered[learned_from] = tune(
                model, inference, counts, cells, labels, config=config, groups=groups, progress=False
            )
        tuned = remembered[learned_from]
        cells, asked = tuned.embedding, with_tuned(inference, model, tuned.weights).cell_embeddings(asked_counts)
    annotator = Annotator.fit(
        cells,
        counts,
        labels,
        read=task.genes,
        method=method,
        groups=groups,
        baselines=False,
        tuned=tuned,
        seed=seed,
    )
    found = annotator.annotate(annotator.learned.view(asked, asked_counts, task.genes))
    return np.array(found.labels)[found.best], () if tuned is None else tuned.losses


def judged(task: Task, seeds: list[dict[str, Any]], known: Mapping[Method, Predictions]) -> TaskResult:
    """Judge the seeds done, beside the baselines."""
    names = np.unique(task.labels)
    ours = {
        Method(features="model", classifier=method): tuple(names[one["given"][method]] for one in seeds)
        for method in METHODS
    }
    others = {method: predictions[: len(seeds)] for method, predictions in known.items()}
    beside = {**others, **{method: one for method, one in ours.items() if method.classifier != "finetune"}}
    pairs = [(method, other) for method in ours for other in beside if other != method]
    return judge(replace(task, splits=task.splits[: len(seeds)]), {**ours, **others}, pairs)


if __name__ == "__main__":
    main()
