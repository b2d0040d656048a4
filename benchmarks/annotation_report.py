"""Print the README's table of `xt.tl.annotate`, from what annotation.py and novelty.py wrote.

python benchmarks/annotation_report.py
"""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
MARKS = {"beats": "+", "ties": "=", "loses": "-"}
METHOD = "ensemble"


def main() -> None:
    for sets in ("test", "validation"):
        tasks = json.loads((RESULTS / f"annotation_{sets}.json").read_text())["tasks"]
        left_out = json.loads((RESULTS / f"novelty_{sets}.json").read_text())["tasks"]
        novelty = {one["task"]: one["mean"] for one in left_out}
        header = (sets, "macro-F1", "best baseline", "off by", "sets", "unknown: known", "left out", "AUROC")
        print("\n| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
        for task in tasks:
            print(row(task, novelty.get(task["task"])))


def row(task: dict[str, Any], novelty: dict[str, list[float]] | None) -> str:
    scores = {
        (one["method"]["features"], one["method"]["classifier"]): one["macro_f1"]["mean"] for one in task["scores"]
    }
    ours = ("model", METHOD)
    best = max((method for method in scores if method[0] != "model"), key=lambda method: scores[method])
    (verdict,) = (
        one["verdict"]
        for one in task["differences"]
        if (one["method"]["features"], one["method"]["classifier"]) == ours
        and (one["baseline"]["features"], one["baseline"]["classifier"]) == best
    )
    worth = task["worth"][METHOD]
    cells = [
        task["task"],
        two(scores[ours]),
        f"{two(scores[best])} {MARKS[verdict]} {', '.join(part for part in best if part)}",
        f"{two(worth['calibration_error_before'][0])} -> {two(worth['calibration_error'][0])}",
        f"{worth['coverage'][0]:.0%}",
        f"{worth['unknown'][0]:.0%}",
        "" if novelty is None else f"{novelty['unknown'][0]:.0%}",
        "" if novelty is None else two(novelty["strangeness"][0]),
    ]
    return "| " + " | ".join(cells) + " |"


def two(number: float) -> str:
    return f"{number:.3f}".removeprefix("0")


if __name__ == "__main__":
    main()
