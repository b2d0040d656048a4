"""The table of denoising.py, from its runs: JSON, and the same as text with a verdict for each data set and depth."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xtrimogene.evaluation.bootstrap import Interval, mean_difference, mean_interval

OURS = "ours"
PER_CELL, PER_RUN = ("log loss", "squared error"), ("ARI", "NMI", "correlated")
PER_TRAINING = ("epochs",)
WORDS = {"beats": "beats", "ties": "ties with", "loses": "loses to"}


def to_json(
    runs: Path, sets: Sequence[str], rates: Sequence[float], methods: Sequence[str], sha256: str
) -> dict[str, Any]:
    tables = [
        table_of(runs / name, name, rate, methods)
        for name in sets
        for rate in rates
        if any((runs / name).glob(f"{rate:g}-*/{OURS}.json"))
    ]
    return {"sha256": sha256, "tables": tables}


def table_of(folder: Path, name: str, rate: float, methods: Sequence[str]) -> dict[str, Any]:
    found = {method: read(folder, rate, method) for method in methods}
    rows, ours = {}, found[OURS]
    for method, runs in found.items():
        seeds = sorted(runs)
        if not seeds:
            continue
        row: dict[str, Any] = {
            "seeds": len(seeds),
            "seconds": round(float(np.mean([r["seconds"] for r in runs.values()])), 1),
        }
        for key in PER_CELL:
            scores = stacked(runs, seeds, key)
            row[key] = as_list(mean_interval(scores))
            shared = [seed for seed in seeds if seed in ours]
            if method != OURS and shared:
                difference = mean_difference(stacked(runs, shared, key), stacked(ours, shared, key))
                row[f"{key}, less ours"] = as_list(difference)
                if key == "log loss":
                    row["verdict"] = difference.verdict
        for key in (*PER_RUN, *PER_TRAINING):
            values = [run[key] for run in runs.values() if key in run]
            if values:
                row[key] = [float(np.mean(values)), float(np.min(values)), float(np.max(values))]
        rows[method] = row
    return {"data": name, "rate": rate, "methods": rows, "verdict": sentence(name, rate, rows)}


def read(folder: Path, rate: float, method: str) -> dict[int, dict[str, Any]]:
    files = folder.glob(f"{rate:g}-*/{method}.json")
    return {int(file.parent.name.rpartition("-")[2]): json.loads(file.read_text()) for file in files}


def stacked(runs: dict[int, dict[str, Any]], seeds: Sequence[int], key: str) -> np.ndarray:
    scores = np.array([runs[seed][key] for seed in seeds])
    return scores[:, np.isfinite(scores).all(axis=0)]


def as_list(interval: Interval) -> list[float]:
    return [round(value, 5) for value in (interval.mean, interval.low, interval.high)]


def sentence(name: str, rate: float, rows: dict[str, Any]) -> str:
    parts = []
    for verdict, word in WORDS.items():
        met = [f"{m} ({r['log loss, less ours'][0]:+.3f})" for m, r in rows.items() if r.get("verdict") == verdict]
        if met:
            parts.append(f"{word} {', '.join(met)}")
    return f"{name} at {rate:.0%}, log loss of removed molecules: ours {'; '.join(parts)}."


def to_text(table: dict[str, Any]) -> str:
    lines = [
        "# Denoising: molecules that were removed",
        "",
        f"Model {table['sha256'][:12]}. benchmarks/denoising.py says how.",
    ]
    lines += [
        "",
        "Log loss, nats a removed molecule, and squared error: lower is better, in brackets the 95 % interval; ARI and",
        "NMI: higher is better, the range of the thinnings. A difference is the method's loss less ours: above 0, ours",
        "is better.",
    ]
    lines += overview(table["tables"])
    for one in table["tables"]:
        lines += ["", f"## {one['data']}, {one['rate']:.0%} of the molecules", "", one["verdict"], ""]
        lines += [
            "| | log loss | less ours | squared error | ARI | NMI | null pairs correlated | s |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [row_text(method, row) for method, row in one["methods"].items()]
    told = table["told"]
    lines += [
        "",
        f"## What the model predicts when it is told a depth: {told['data']} at 20 %",
        "",
        f"{told['counts']:,.0f} counts and {told['genes counted']:,.0f} genes a cell are seen. As predicted, before",
        "it is calibrated; the total is expected counts over those asked for, and should be 1.",
        "",
        "| T = log10 of counts | genes of which a count or more is expected | total |",
        "|---|---|---|",
        *(f"| {depth:.1f} | {genes:,.0f} | {total:.2f} |" for depth, genes, total in told["rows"]),
    ]
    return "\n".join(lines)


def overview(tables: list[dict[str, Any]]) -> list[str]:
    """Return a line for each data set and depth: what the others lose, or win, beside ours."""
    beside = (
        "kNN smoothing, shrunk",
        "scVI",
        "ours, no model",
        "ours, no neighbours",
        "ours, random weights",
        "ours, T ignored",
    )
    lines = ["", f"| log loss less ours | thinnings | {' | '.join(beside)} |", "|---|---|" + "---|" * len(beside)]
    for one in tables:
        rows = [one["methods"].get(method, {}).get("log loss, less ours") for method in beside]
        seeds = one["methods"][OURS]["seeds"]
        lines.append(f"| {one['data']}, {one['rate']:.0%} | {seeds} | {' | '.join(bracket(row) for row in rows)} |")
    return lines


def row_text(method: str, row: dict[str, Any]) -> str:
    few = "" if row["seeds"] == 3 else f" ({row['seeds']} of 3 seeds)"
    if "epochs" in row:
        few += " ({:.0f} to {:.0f} epochs)".format(*row["epochs"][1:])
    return (
        f"| {method}{few} | {bracket(row['log loss'])} | {bracket(row.get('log loss, less ours'))} | "
        f"{bracket(row['squared error'], 2)} | {bracket(row['ARI'], 2)} | {bracket(row['NMI'], 2)} | "
        f"{share(row)} | {row['seconds']:.0f} |"
    )


def bracket(values: list[float] | None, digits: int = 3) -> str:
    if values is None:
        return ""
    mean, low, high = values
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def share(row: dict[str, Any]) -> str:
    return f"{row['correlated'][0]:.0%}" if "correlated" in row else ""
