"""Write results/synergy.md, verdicts and tables, from results/synergy.json.

python benchmarks/synergy_report.py
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
HEAD = """# Drug synergy: 12,415 measurements of O'Neil 2016 (DeepDDS), by what is left out

Written by `benchmarks/synergy_report.py`; `benchmarks/synergy.py` says how: three folds, three seeds, 95 % intervals
over what is left out and seeds (200 resamples). "Ours" is the mean of a network's answer and of effects of drugs, line
and pair, with our embedding of the line unless another vector is named.

Choices of the network (pool, width, dropout, epochs) were made for labels on inner folds of two thirds of the table,
the training part of the first of three folds. The baselines were not tuned: gradient boosting has scikit-learn's
defaults, the effects a ridge of 1. What the network gains over boosting holds against untuned boosting.
"""
WAYS = {
    "measurement": "measurements (random)",
    "pair": "pairs of drugs",
    "drug": "drugs, one or both of a row",
    "cell_line": "cell lines",
    "tissue": "tissues",
}
NAMES = {"auroc": "AUROC", "pearson": "Pearson"}
WORDS = {"beats": "ours beats it", "ties": "tie", "loses": "ours loses"}
SENTENCE = {"beats": "beats", "ties": "ties with", "loses": "loses to"}
OURS = "ours, embedding"


def main() -> None:
    report = json.loads((RESULTS / "synergy.json").read_text())
    parts = [(f"{target.capitalize().replace('Values', 'Scores')}: {WAYS[way]}", one)
             for target, ways in report.items() for way, one in ways.items()]  # fmt: skip
    lines = [HEAD, *(f"* {called} left out: {verdicts(one['methods'])}." for called, one in parts), ""]
    for called, one in parts:
        lines += [f"## {called} left out ({one['units']:,} of them)", "", *table(one), "", *differences(one)]
    (RESULTS / "synergy.md").write_text("\n".join(lines).rstrip() + "\n")


def verdicts(methods: Mapping[str, Any]) -> str:
    """Return what ours stands to each baseline and to itself with another vector of the line."""
    parts = []
    for verdict, words in SENTENCE.items():
        names = [
            f"{name.replace('ours, ', 'itself with ')} ({method['ours_minus_it'][0]:+.3f})"
            for name, method in methods.items()
            if method["ours_verdict"] == verdict and name != OURS and not name.startswith("network alone")
        ]
        parts += [f"{words} {'; '.join(names)}"] if names else []
    return ", ".join(parts)


def table(one: Mapping[str, Any]) -> list[str]:
    metric, methods = one["metric"], one["methods"]
    others = [name for name in methods[OURS]["mean"] if name != metric]
    header = ["method", NAMES[metric], *(name.replace("_", " ") for name in others), "ours (embedding) minus it", ""]
    rows = []
    for name, method in methods.items():
        ours = ["", ""] if name == OURS else [bracket(method["ours_minus_it"]), WORDS[method["ours_verdict"]]]
        rows.append([name, bracket(method["interval"]), *(f"{method['mean'][other]:.3f}" for other in others), *ours])
    return [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


def differences(one: Mapping[str, Any]) -> list[str]:
    gain = one["methods"]["ours, expression"]["ours_minus_it"]
    alone = one["embedding_alone_minus_expression_alone"]
    text = f"{bracket(gain)} with effects, {bracket(alone)} for the networks alone"
    lines = [f"Gain of the embedding over raw expression: {text}.", ""]
    if "both left out" in one:
        single, both = one["one drug left out"], one["both left out"]
        names = (OURS, "ours, expression", "additive", "boosting, one-hot")
        shown = ", ".join(f"{name} {single[name]:.3f} / {both[name]:.3f}" for name in names)
        lines += [f"AUROC where one drug / both drugs are left out: {shown}.", ""]
    return lines


def bracket(one: Sequence[float]) -> str:
    return f"{one[0]:.3f} [{one[1]:.3f}, {one[2]:.3f}]"


if __name__ == "__main__":
    main()
