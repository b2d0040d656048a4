"""How good are the labels of `xt.tl.annotate`, and does what is said of them hold in another donor or study.

python benchmarks/annotation.py --validation --out benchmarks/results/annotation_validation.json
python benchmarks/annotation.py --test --outside --out benchmarks/results/annotation_test.json

The tasks are those of embedding_quality.py: choices are made on --validation, --test opens the test studies. Each
method learns and calibrates in the training cells alone (in folds by library, donor, ... where there are several, else
by cell) and answers the test cells; baselines stand beside it, on the same cells, splits and seeds. Of test cells whose
label was learned: calibration error (15 bins) before and after the temperature, how often the set of labels at an
error rate of 10 % holds the right one and how many labels it holds, and how many are called unknown at a rate of 5 %.
"HVG + PCA aligned" is the same alignment of the query given to a baseline; "voted" are neighbouring cells together.
With --outside also CellTypist, Harmony, scVI and scANVI (extra `eval`), which is hours on a CPU, once: they are kept in
--cache. A star: the method has seen the counts of the test cells too.
Means over three seeds; intervals by a bootstrap over cells and, for macro-F1, seeds. Each task is written to --out as
it comes; the same command goes on with those that are not there.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from embedding_quality import ROOT, embed_with, load, read_tasks
from jaxtyping import Float, Int, Shaped
from outside_methods import outside_predictions
from scipy.special import softmax

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.baseline_cache import cached_baselines
from xtrimogene.evaluation.benchmark_sets import TEST, VALIDATION
from xtrimogene.evaluation.comparison import Method, Predictions, TaskResult, judge
from xtrimogene.evaluation.metrics import calibration_error
from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.tasks import Study, Task
from xtrimogene.long_work import whole_file
from xtrimogene.tasks.annotation.annotator import Annotator, check_labels
from xtrimogene.tasks.annotation.latent_expression import LatentExpression
from xtrimogene.tasks.annotation.learned import AnnotationMethod, Learned
from xtrimogene.tasks.annotation.voting import vote

METHODS: tuple[AnnotationMethod, ...] = ("ensemble", "linear", "knn", "match")  # for finetune: fine_tuning.py
OURS = "model"
ALIGNED = Method(features="HVG + PCA aligned", classifier="linear")
GROUPED_BY = {
    "baron_h1": "library",
    "zilionis_lung_300": "donor",
    "darmanis_brain_466": "donor",
    "hao_pbmc_1336": "lane",
    "kang_ifnb_832": "stim",
    "sc_mixology_1021": "batch",
    "camp_fetalcortex_220": "sample",
}
Answers = dict[str, Shaped[np.ndarray, " T"]]


def main() -> None:
    options = read_options(__doc__, outside=True)
    model, studies, tasks, placed = prepare(options)
    report = read_report(options, {"sha256": model.sha256, "tasks": []})
    done = {one["task"] for one in report["tasks"]}
    for task in tasks:
        if task.name in done:
            continue
        began = time.perf_counter()
        others, expression = others_of(task, studies, options), LatentExpression.of(model.network)
        result, worth = measure(task, studies, task.gather(placed), others, expression)
        print(to_text(result, worth), flush=True)
        seconds = round(time.perf_counter() - began, 1)
        report["tasks"].append({**asdict(result), "spaces": None, "worth": worth, "seconds": seconds})
        write_report(options, report)


def prepare(
    options: argparse.Namespace,
) -> tuple[PretrainedModel, dict[str, Study], list[Task], dict[str, Float[np.ndarray, "_ P"]]]:
    """Return the model, the studies and tasks asked for, and each study's embedding."""
    model = load(options.model, options)
    plans = [plan for plan in (TEST if options.test else VALIDATION) if re.search(options.task, plan.name)]
    studies, tasks, needed = read_tasks(plans, model.genes, options.shared / "data")
    embed = embed_with(model, options)
    return model, studies, tasks, {name: embed(study, needed[name]) for name, study in studies.items()}


def read_report(options: argparse.Namespace, empty: dict[str, Any]) -> dict[str, Any]:
    """Return what an earlier run of the command wrote to --out, or, where there is none, the empty report."""
    if options.out is None or not options.out.exists():
        return empty
    report: dict[str, Any] = json.loads(options.out.read_text())
    if report["sha256"] != empty["sha256"]:
        raise SystemExit(f"{options.out} is of another model; name another file or remove it")
    return report


def write_report(options: argparse.Namespace, report: Mapping[str, Any]) -> None:
    if options.out is not None:
        with whole_file(options.out) as scratch:
            scratch.write_text(json.dumps(report, indent=1) + "\n")


def others_of(task: Task, studies: Mapping[str, Study], options: argparse.Namespace) -> dict[Method, Predictions]:
    """Return what the baselines predict and, with --outside, other libraries' methods."""
    known = dict(cached_baselines(task, options.cache).predictions)
    if options.outside:
        known |= outside_predictions(task, learned_groups(task, studies), options.cache)
    return known


def measure(
    task: Task,
    studies: Mapping[str, Study],
    embedding: Float[np.ndarray, "N P"],
    others: Mapping[Method, Predictions],
    expression: LatentExpression | None,
) -> tuple[TaskResult, dict[str, dict[str, Any]]]:
    """Judge every method beside every baseline, and measure what each says of its labels."""
    answers = {method: answer(task, studies, embedding, method, expression) for method in METHODS}
    ours: dict[Method, Predictions] = {
        Method(features=OURS, classifier=method): tuple(one["label"] for one in by_seed)
        for method, by_seed in answers.items()
    }
    ours[Method(features=OURS, classifier="ensemble, voted")] = tuple(one["voted"] for one in answers["ensemble"])
    others = {**others, ALIGNED: aligned_pca(task, embedding)}
    result = judge(task, {**ours, **others}, [(method, other) for method in ours for other in others])
    return result, {method: worth_of(by_seed) for method, by_seed in answers.items()}


def aligned_pca(task: Task, embedding: Float[np.ndarray, "N P"]) -> Predictions:
    """Return what logistic regression on HVG + PCA says of cells that are aligned as `xt.tl.annotate` aligns them."""

    def predict(split: Split, seed: int) -> Shaped[np.ndarray, " B"]:
        of_train = embedding[split.train], task.counts[split.train], task.labels[split.train]
        learned = Learned.fit("ensemble", *of_train, read=task.genes, seed=seed)
        asked = learned.view(embedding[split.test], task.counts[split.test], task.genes)
        components = learned.align(asked)[0].components
        return learned.labels[learned.by_expression.scores(components).argmax(axis=1)]

    return task.predict(predict)


def answer(
    task: Task,
    studies: Mapping[str, Study],
    embedding: Float[np.ndarray, "N P"],
    method: AnnotationMethod,
    expression: LatentExpression | None,
) -> list[Answers]:
    """Return what is said of the tested cells under each seed."""
    answers = []
    for seed, splits in enumerate(task.splits):
        of_cell: Answers = {}
        for split in splits:
            for name, values in answer_split(task, studies, embedding, split, method, seed, expression).items():
                of_cell.setdefault(name, np.empty(len(task.labels), dtype=values.dtype))[split.test] = values
        answers.append({name: values[task.tested] for name, values in of_cell.items()})
    return answers


def answer_split(
    task: Task,
    studies: Mapping[str, Study],
    embedding: Float[np.ndarray, "N P"],
    split: Split,
    method: AnnotationMethod,
    seed: int,
    expression: LatentExpression | None,
) -> Answers:
    annotator = fit(task, studies, embedding, split.train, method, seed, expression)
    learned = annotator.learned
    asked = learned.view(embedding[split.test], task.counts[split.test], task.genes)
    found, aligned = annotator.annotate(asked), learned.align(asked)[0]
    true, names = task.labels[split.test], np.array(found.labels)
    return {
        "label": names[found.best].astype("U64"),
        "voted": names[vote(embedding[split.test], found.probabilities)].astype("U64"),
        "known": np.isin(true, names),
        "right": names[found.best] == true,
        "confidence": found.confidence,
        "before": softmax(learned.scores(aligned), axis=1).max(axis=1),
        "covered": (found.possible & (names == true[:, None])).any(axis=1),
        "possible": found.possible.sum(axis=1),
        "unknown": found.novel,
    }


def fit(
    task: Task,
    studies: Mapping[str, Study],
    embedding: Float[np.ndarray, "N P"],
    rows: Int[np.ndarray, " A"],
    method: AnnotationMethod,
    seed: int,
    expression: LatentExpression | None = None,
) -> Annotator:
    """Fit on these rows of the task, in folds by what their study has groups of, where that can be."""
    return Annotator.fit(
        embedding[rows],
        task.counts[rows],
        task.labels[rows],
        read=task.genes,
        method=method,
        groups=groups_of(task, studies, rows),
        baselines=False,
        expression=expression if method == "match" else None,
        seed=seed,
    )


def groups_of(task: Task, studies: Mapping[str, Study], rows: Int[np.ndarray, " A"]) -> Shaped[np.ndarray, " A"] | None:
    """Return the groups of the rows that are learned from, where they can be held out."""
    groups = learned_groups(task, studies)
    try:
        check_labels(task.labels[rows], None if groups is None else groups[rows])
    except ConfigError:
        return None
    return None if groups is None else groups[rows]


def learned_groups(task: Task, studies: Mapping[str, Study]) -> Shaped[np.ndarray, " N"] | None:
    """Return the group of each cell of the study that is learned from, "" of others, where it has groups."""
    (study,) = np.unique(task.studies[task.splits[0][0].train]).tolist()
    if study not in GROUPED_BY:
        return None
    of_study = studies[study].obs[GROUPED_BY[study]]
    groups, here = np.full(len(task.labels), "", dtype=of_study.dtype), task.studies == study
    groups[here] = of_study[task.rows[here]]
    return groups


def worth_of(by_seed: Sequence[Answers]) -> dict[str, Any]:
    """Means over seeds and, in brackets, 95 % of a bootstrap over the cells, the same for each seed."""
    measures: dict[str, Callable[[Answers], float]] = {
        "calibration_error_before": lambda one: calibration_error(one["before"], one["right"]),
        "calibration_error": lambda one: calibration_error(one["confidence"], one["right"]),
        "coverage": lambda one: float(one["covered"].mean()),
        "labels_possible": lambda one: float(one["possible"].mean()),
        "unknown": lambda one: float(one["unknown"].mean()),
    }
    known = np.logical_and.reduce([one["known"] for one in by_seed])
    if not known.any():
        return {"num_cells": 0}
    kept = [{name: values[known] for name, values in one.items()} for one in by_seed]
    random = np.random.default_rng(0)
    worth: dict[str, Any] = {"num_cells": int(known.sum())}
    draws = [random.integers(0, known.sum(), known.sum()) for _ in range(300)]
    for name, measured in measures.items():
        again = [np.mean([measured({key: one[key][rows] for key in one}) for one in kept]) for rows in draws]
        low, high = np.quantile(again, [0.025, 0.975])
        worth[name] = [float(np.mean([measured(one) for one in kept])), float(low), float(high)]
    return worth


def to_text(result: TaskResult, worth: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of the task: the methods, the baselines, and how each method stands to the best of them."""
    means = {score.method: score.macro_f1 for score in result.scores}
    ours = [method for method in means if method.features == OURS]
    best = max((method for method in means if method not in ours), key=lambda method: means[method].mean)
    lines = [f"\n{result.task}: {result.num_tested:,} cells, {len(result.labels)} labels; best baseline: {best}"]
    for method in sorted(means, key=lambda method: -means[method].mean):
        one = means[method]
        line = f"  {method!s:<28}{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]"
        if method in ours:
            (difference,) = (d for d in result.differences if d.method == method and d.baseline == best)
            line += f"  {difference.verdict} it, {difference.macro_f1.mean:+.3f}"
        lines.append(line)
    for method, facts in worth.items():
        if facts["num_cells"]:
            shown = ", ".join(f"{name} {facts[name][0]:.3f}" for name in facts if name != "num_cells")
            lines.append(f"  {method:<10}{shown}")
    return "\n".join(lines)


def read_options(description: str | None, *, outside: bool = False) -> argparse.Namespace:
    """Read the command line; ``outside``: the script can run other libraries' methods."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", nargs="?", default="demo")
    sets = parser.add_mutually_exclusive_group()
    sets.add_argument("--validation", action="store_true", help="training studies only (the default)")
    sets.add_argument("--test", action="store_true", help="the test studies")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="folder that holds data/")
    parser.add_argument("--task", default="", help="only tasks whose name fits this regular expression")
    parser.add_argument("--device", default=None)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "embedding_quality")
    parser.add_argument("--out", type=Path, default=None)
    if outside:
        parser.add_argument("--outside", action="store_true", help="also CellTypist, Harmony, scVI and scANVI")
    parser.set_defaults(pool=None, read_depth=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
