"""Does `xt.tl.annotate` call unknown what its reference lacks? One label at a time is left out of the reference.

python benchmarks/novelty.py --validation --out benchmarks/results/novelty_validation.json
python benchmarks/novelty.py --test --out benchmarks/results/novelty_test.json

Tasks, training and test cells are those of annotation.py, under three seeds; of folds by cell, which are alike, the
first. AUROC of the left-out type's test cells against those of the labels that are there: of ours ("strangeness"), of
1 - the confidence of the ensemble, of 1 - the largest probability of logistic regression on all genes, and of the mean
distance to the 15 nearest reference cells in the embedding. And how many of either are called unknown at a rate of 5 %.
Means over the labels of a task (at least five test cells), then seeds; intervals by a bootstrap over labels.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from annotation import fit, prepare, read_options, write_report
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.evaluation.baselines import log_normalize
from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.tasks import Study, Task

LEAST_CELLS = 5
MEASURES = ("strangeness", "confidence", "all genes", "neighbours", "unknown", "known")


def main() -> None:
    options = read_options(__doc__)
    began = time.perf_counter()
    model, studies, tasks, placed = prepare(options)
    tables = []
    for task in tasks:
        by_label = measure(task, studies, task.gather(placed))
        tables.append({"task": task.name, "mean": means(by_label), "labels": by_label})
        shown = {name: "{:.3f} [{:.3f}, {:.3f}]".format(*values) for name, values in tables[-1]["mean"].items()}
        print(task.name, len(by_label), *(f"\n  {name:<12}{text}" for name, text in shown.items()), flush=True)
    if options.out is not None:
        write(options, model, tables, time.perf_counter() - began)


def write(
    options: argparse.Namespace, model: PretrainedModel, tables: Sequence[Mapping[str, Any]], seconds: float
) -> None:
    facts = {"sha256": model.sha256, "sets": "test" if options.test else "validation", "seconds": round(seconds, 1)}
    write_report(options, {**facts, "tasks": tables})


def measure(
    task: Task, studies: Mapping[str, Study], embedding: Float[np.ndarray, "N P"]
) -> dict[str, dict[str, float]]:
    """Return each left-out label's measures, the mean over seeds and splits."""
    found: dict[str, list[dict[str, float]]] = {}
    for seed, splits in enumerate(task.splits):
        for split in splits[:1] if task.grouping == "cell" else splits:
            for label in np.unique(task.labels[split.test]).tolist():
                kept = split.train[task.labels[split.train] != label]
                out = task.labels[split.test] == label
                names = np.unique(task.labels[kept])
                if out.sum() < LEAST_CELLS or len(kept) == len(split.train) or len(names) < 2:
                    continue
                found.setdefault(label, []).append(leave_out(task, studies, embedding, split, kept, out, seed))
    return {
        label: {name: float(np.mean([one[name] for one in many])) for name in MEASURES} for label, many in found.items()
    }


def leave_out(
    task: Task,
    studies: Mapping[str, Study],
    embedding: Float[np.ndarray, "N P"],
    split: Split,
    kept: Int[np.ndarray, " A"],
    out: Bool[np.ndarray, " B"],
    seed: int,
) -> dict[str, float]:
    annotator = fit(task, studies, embedding, kept, "ensemble", seed)
    learned = annotator.learned
    asked = learned.view(embedding[split.test], task.counts[split.test], task.genes)
    answers, aligned = annotator.annotate(asked), learned.align(asked)[0]
    judged = out | np.isin(task.labels[split.test], task.labels[kept])
    scores = {
        "strangeness": annotator.strangeness.of(learned.distances(aligned)),
        "confidence": -answers.confidence,
        "all genes": -largest_probability(task, kept, split.test),
        "neighbours": learned.neighbors.of(asked.embedding),
    }
    measured = {name: float(roc_auc_score(out[judged], score[judged])) for name, score in scores.items()}
    return measured | {
        "unknown": float(answers.novel[out].mean()),
        "known": float(answers.novel[judged & ~out].mean()),
    }


def largest_probability(task: Task, train: Int[np.ndarray, " A"], test: Int[np.ndarray, " B"]) -> np.ndarray:
    """As `evaluation.baselines.logistic_regression`."""
    values = log_normalize(task.counts[:, np.flatnonzero(task.genes)])
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000).fit(values[train], task.labels[train])
    return model.predict_proba(values[test]).max(axis=1)


def means(by_label: Mapping[str, Mapping[str, float]]) -> dict[str, list[float]]:
    """Mean over labels, and 95 % of a bootstrap over them."""
    if not by_label:
        return {}
    random = np.random.default_rng(0)
    draws = random.integers(0, len(by_label), size=(2000, len(by_label)))
    names = next(iter(by_label.values()))
    measured = {name: np.array([of_label[name] for of_label in by_label.values()]) for name in names}
    return {
        name: [float(values.mean()), *np.quantile(values[draws].mean(axis=1), [0.025, 0.975]).tolist()]
        for name, values in measured.items()
    }


if __name__ == "__main__":
    main()
