"""Write results/annotation.md from what annotation.py, fine_tuning.py and novelty.py wrote, and print README's table.

Random weights are those of embedding_quality.py, whose files of the demo model are demo_test.json and _validation.json.

python benchmarks/annotation_report.py
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
MARKS = {"beats": "+", "ties": "=", "loses": "-"}
METHOD = "ensemble"
README = {  # the test sets' names for readers
    "pbmc3k -> hao": "blood: pbmc3k -> Hao 2021",
    "pbmc3k -> hao, finer": "the same, CD4 and CD8 T apart",
    "pbmc3k -> kang": "blood: pbmc3k -> Kang 2018",
    "pbmc3k -> kang, finer": "the same, five types",
    "wu2021 -> scdeconr breast": "breast tumours: Wu 2021 -> scdeconR",
    "baron_h1 -> donors 2-4": "pancreas: donor 1 -> donors 2-4",
    "sc_mixology by platform": "three cancer lines across platforms",
    "camp_fetalcortex by sample": "fetal cortex, by sample",
    "hao by cell": "blood (Hao), folds by cell",
}
LEAST_COVERAGE, MOST_UNKNOWN = 0.88, 0.1  # beyond these a figure is printed bold, as is a loss: 0.9 and 0.05 are asked
OURS = ("ensemble", "linear", "knn", "match", "finetune")
BASELINES = {
    "all genes, linear": "all genes, LR",
    "HVG + PCA, linear": "PCA, LR",
    "HVG + PCA, knn": "PCA, kNN",
    "joint HVG + PCA, linear": "joint PCA, LR",
    "joint HVG + PCA, knn": "joint PCA, kNN",
    "HVG + PCA aligned, linear": "PCA aligned, LR",
    "Harmony*, linear": "Harmony, LR",
    "Harmony*, knn": "Harmony, kNN",
    "scVI, linear": "scVI, LR",
    "scVI, knn": "scVI, kNN",
    "scANVI*": "scANVI",
    "CellTypist": "CellTypist",
    "random weights, linear": "random weights, LR",
    "random weights, knn": "random weights, kNN",
    "most frequent label": "majority",
}
NOVELTY = ("strangeness", "confidence", "all genes", "neighbours", "unknown", "known")
Task = dict[str, Any]


def main() -> None:
    text = [
        "# How good are the labels of `xt.tl.annotate`",
        "",
        "Written by `benchmarks/annotation_report.py`. Means of three seeds; in brackets 95 % of a bootstrap over "
        "cells and seeds, of types left out over types. Marks say how a method stands to the best baseline of its "
        "row, in bold, by a bootstrap over cells and seeds: + beats, = ties, - loses. Joint PCA, aligned PCA, Harmony "
        "and scANVI have seen the counts of the test cells. An empty cell: not run, or there is no other batch to "
        "correct for. The cancer lines (sc_mixology) were learned on CEL-seq2 and asked for on Drop-seq, and the "
        "other way.",
    ]
    results = {sets: read(sets) for sets in ("test", "validation")}
    text += ["", "## Macro-F1 of every method and every baseline"]
    for sets, (tasks, _, tuned, untrained) in results.items():
        rows = [methods_row(task, tuned.get(task["task"]), find(untrained, task["task"])) for task in tasks]
        text += table((sets, *OURS, *BASELINES.values()), rows)
    text += ["", "## The ensemble beside the best baseline"]
    for sets, (tasks, *_) in results.items():
        text += table((sets, "macro-F1", "best baseline", "", "difference"), [beside_row(task) for task in tasks])
    text += [
        "",
        "## What is said of the ensemble's labels",
        "",
        "Of cells whose label was learned: how far confidence is off before and after scaling (expected calibration "
        "error), how often the possible labels at an error rate of 10 % hold the right one, how many these are (the "
        "best is always one of them, so where each cell has one this is how often it is right), and how many cells "
        "are called unknown at a rate of 5 %.",
    ]
    for sets, (tasks, *_) in results.items():
        header = (sets, "cells", "off by, before", "off by", "sets hold it", "labels in a set", "unknown")
        text += table(header, [worth_row(task) for task in tasks])
    text += [
        "",
        "## One type at a time left out of the reference",
        "",
        "Its cells beside those whose type was learned: AUROC of what `annotate` calls unknown by, of 1 - its "
        "confidence, of 1 - that of logistic regression on all genes, and of the distance to the 15 nearest cells in "
        "the embedding; and how many of either are called unknown, where 5 % of the known are asked for.",
    ]
    for sets, (tasks, novelty, *_) in results.items():
        header = (sets, "types", "annotate", "1 - confidence", "all genes", "15 nearest", "unknown: left out", "known")
        text += table(header, [*novelty_rows(novelty), *novelty_means(tasks, novelty)])
    (RESULTS / "annotation.md").write_text("\n".join(text) + "\n")
    print("\n".join(readme_table()))


def read(sets: str) -> tuple[list[Task], dict[str, Task], dict[str, Task], list[Task]]:
    """Return the tasks, those with types left out, those with fine-tuning, and those with random weights."""
    left_out = json.loads((RESULTS / f"novelty_{sets}.json").read_text())["tasks"]
    return (
        json.loads((RESULTS / f"annotation_{sets}.json").read_text())["tasks"],
        {one["task"]: one for one in left_out if one["mean"]},
        json.loads((RESULTS / f"fine_tuning_{sets}.json").read_text())["tasks"],
        json.loads((RESULTS / f"demo_{sets}.json").read_text())["tasks"],
    )


def readme_table() -> list[str]:
    tasks, novelty, *_ = read("test")
    header = ("test", "ensemble", "match", "best baseline", "confidence off by", "sets hold it", "unknown", "AUROC")
    rows = [readme_row(task, novelty[task["task"]]["mean"]) for task in tasks if task["task"] in README]
    return table(header, rows)[1:]


def readme_row(task: Task, novelty: dict[str, list[float]]) -> list[str]:
    scores, best, worth = scores_of(task), best_baseline(task), task["worth"][METHOD]
    stands = mark(task, f"model, {METHOD}", best)
    name = best.removesuffix(", linear").replace("HVG + ", "")
    before, after = (two(worth[name][0]) for name in ("calibration_error_before", "calibration_error"))
    lost, coverage, unknown = stands == "-", worth["coverage"][0], worth["unknown"][0]
    match = mark(task, "model, match", best)
    strange, doubt = novelty["strangeness"][0], novelty["all genes"][0]
    return [
        bold(README[task["task"]], lost),
        bold(two(scores[f"model, {METHOD}"]), lost),
        bold(f"{two(scores['model, match'])} {match}", match == "-"),
        bold(f"{two(scores[best])} {stands} {name}", lost),
        f"{before} -> {after}",
        bold(f"{coverage:.0%}".replace("%", " %"), coverage < LEAST_COVERAGE),
        bold(f"{unknown:.0%}".replace("%", " %"), unknown > MOST_UNKNOWN),
        bold(f"{two(strange)}, {two(doubt)}", strange < doubt),
    ]


def bold(text: str, so: bool) -> str:
    return f"**{text}**" if so else text


def beside_row(task: Task) -> list[str]:
    best, means = best_baseline(task), {name_of(one["method"]): one["macro_f1"] for one in task["scores"]}
    difference = difference_of(task, f"model, {METHOD}", best)
    return [
        task["task"],
        of_three(means[f"model, {METHOD}"]),
        of_three(means[best]),
        f"{MARKS[difference['verdict']]} {best}",
        of_three(difference["macro_f1"], "+"),
    ]


def worth_row(task: Task) -> list[str]:
    worth = task["worth"][METHOD]
    if not worth["num_cells"]:
        return [task["task"], "0", "", "", "", "", ""]
    names = ("calibration_error_before", "calibration_error", "coverage", "labels_possible", "unknown")
    return [task["task"], f"{worth['num_cells']:,}", *(interval(*worth[name]) for name in names)]


def novelty_rows(novelty: dict[str, Task]) -> list[list[str]]:
    return [
        [name, str(len(task["labels"])), *(interval(*task["mean"][measure]) for measure in NOVELTY)]
        for name, task in novelty.items()
    ]


def novelty_means(tasks: Sequence[Task], novelty: dict[str, Task]) -> list[list[str]]:
    """Return the means over tasks that ask another study, donor, platform or sample, and over those that do not."""
    by_cell = {task["task"]: task["grouping"] == "cell" for task in tasks}
    rows = []
    for name, wanted in (("mean across studies, donors, platforms, samples", False), ("mean of folds by cell", True)):
        means = [task["mean"] for key, task in novelty.items() if by_cell[key] == wanted]
        values = [two(sum(one[measure][0] for one in means) / len(means)) for measure in NOVELTY]
        rows.append([name, "", *values])
    return rows


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["", "| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def find(tasks: Sequence[Task], name: str) -> Task:
    (found,) = (task for task in tasks if task["task"] == name)
    return found


def methods_row(task: Task, tuned: Task | None, untrained: Task) -> list[str]:
    scores, best = scores_of(task), best_baseline(task)
    scores |= {name: score for name, score in scores_of(untrained).items() if name.startswith("random weights")}
    cells = [f"{two(scores[f'model, {name}'])} {mark(task, f'model, {name}', best)}" for name in OURS[:-1]]
    cells.append(tuned_cell(tuned))
    for name in BASELINES:
        cells.append("" if name not in scores else f"**{two(scores[name])}**" if name == best else two(scores[name]))
    return [task["task"], *cells]


def tuned_cell(tuned: Task | None) -> str:
    """Return the score of fine-tuning beside the best baseline, over the seeds that were run."""
    if tuned is None or "result" not in tuned:
        return ""
    result, seeds = tuned["result"], len(tuned["seeds"])
    best = best_baseline(result)
    said = f"{two(scores_of(result)['model, finetune'])} {mark(result, 'model, finetune', best)}"
    return said if seeds == 3 else f"{said} ({seeds} seed{'s' if seeds > 1 else ''})"


def name_of(method: dict[str, str | None]) -> str:
    return ", ".join(part for part in (method["features"], method["classifier"]) if part)


def scores_of(task: Task) -> dict[str, float]:
    return {name_of(one["method"]): one["macro_f1"]["mean"] for one in task["scores"]}


def best_baseline(task: Task) -> str:
    scores = scores_of(task)
    return max((name for name in scores if not name.startswith("model, ")), key=lambda name: scores[name])


def difference_of(task: Task, method: str, baseline: str) -> dict[str, Any]:
    (found,) = (
        one for one in task["differences"] if name_of(one["method"]) == method and name_of(one["baseline"]) == baseline
    )
    return found


def mark(task: Task, method: str, baseline: str) -> str:
    return MARKS[difference_of(task, method, baseline)["verdict"]]


def of_three(score: dict[str, float], sign: str = "") -> str:
    return interval(score["mean"], score["low"], score["high"], sign=sign)


def interval(mean: float, low: float, high: float, *, sign: str = "") -> str:
    return f"{two(mean, sign)} [{two(low, sign)}, {two(high, sign)}]"


def two(number: float, sign: str = "") -> str:
    """Return three decimals, without a zero before the point."""
    return f"{number:{sign}.3f}".replace("0.", ".", 1) if abs(number) < 1 else f"{number:{sign}.3f}"


if __name__ == "__main__":
    main()
