"""Print the README's table of `xt.tl.annotate`, from what annotation.py, fine_tuning.py and novelty.py wrote.

Random weights are those of embedding_quality.py, whose files of the demo model are demo_test.json and _validation.json.

python benchmarks/annotation_report.py

Every method and every baseline stand beside each other in results/annotation.md, which this writes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
MARKS = {"beats": "+", "ties": "=", "loses": "-"}
METHOD = "ensemble"
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
Task = dict[str, Any]


def main() -> None:
    text = [
        "# Macro-F1 of every method and every baseline",
        "",
        "Written by `benchmarks/annotation_report.py`. Means of three seeds (of `finetune`: the seeds that were run, "
        "as said beside it); intervals are in the JSON files. Marks say how a method stands to the best baseline of "
        "its row, in bold, by a bootstrap over cells and seeds: + beats, = ties, - loses. Joint PCA, aligned PCA, "
        "Harmony and scANVI have seen the counts of the test cells. An empty cell: not run, or there is no other batch "
        "to correct for.",
    ]
    for sets in ("test", "validation"):
        tasks = json.loads((RESULTS / f"annotation_{sets}.json").read_text())["tasks"]
        untrained = json.loads((RESULTS / f"demo_{sets}.json").read_text())["tasks"]
        left_out = json.loads((RESULTS / f"novelty_{sets}.json").read_text())["tasks"]
        fine_tuning = RESULTS / f"fine_tuning_{sets}.json"
        tuned = json.loads(fine_tuning.read_text())["tasks"] if fine_tuning.exists() else {}
        novelty = {one["task"]: one["mean"] for one in left_out}
        header = (sets, "macro-F1", "best baseline", "off by", "sets", "unknown: known", "left out", "AUROC")
        print(*table(header, [worth_row(task, novelty.get(task["task"])) for task in tasks]), sep="\n")
        text += table(
            (sets, *OURS, *BASELINES.values()),
            [methods_row(task, tuned.get(task["task"]), find(untrained, task["task"])) for task in tasks],
        )
    (RESULTS / "annotation.md").write_text("\n".join(text) + "\n")


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


def worth_row(task: Task, novelty: dict[str, list[float]] | None) -> list[str]:
    scores, best, worth = scores_of(task), best_baseline(task), task["worth"][METHOD]
    return [
        task["task"],
        two(scores[f"model, {METHOD}"]),
        f"{two(scores[best])} {mark(task, f'model, {METHOD}', best)} {best}",
        f"{two(worth['calibration_error_before'][0])} -> {two(worth['calibration_error'][0])}",
        f"{worth['coverage'][0]:.0%}",
        f"{worth['unknown'][0]:.0%}",
        "" if novelty is None else f"{novelty['unknown'][0]:.0%}",
        "" if novelty is None else two(novelty["strangeness"][0]),
    ]


def name_of(method: dict[str, str | None]) -> str:
    return ", ".join(part for part in (method["features"], method["classifier"]) if part)


def scores_of(task: Task) -> dict[str, float]:
    return {name_of(one["method"]): one["macro_f1"]["mean"] for one in task["scores"]}


def best_baseline(task: Task) -> str:
    scores = scores_of(task)
    return max((name for name in scores if not name.startswith("model, ")), key=lambda name: scores[name])


def mark(task: Task, method: str, baseline: str) -> str:
    (verdict,) = (
        one["verdict"]
        for one in task["differences"]
        if name_of(one["method"]) == method and name_of(one["baseline"]) == baseline
    )
    return MARKS[verdict]


def two(number: float) -> str:
    return f"{number:.3f}".removeprefix("0")


if __name__ == "__main__":
    main()
