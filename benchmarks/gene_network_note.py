"""Write gene_network.md from gene_network.json and gene_modules.json.

python benchmarks/gene_network_note.py
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
COMPARED = (
    "Pearson",
    "Spearman",
    "Pearson, training corpus",
    "PCA, training corpus",
    "mean expression",
    "random weights, factors",
)
HEAD = """# Gene networks and modules: what was measured

From gene_network.json and gene_modules.json; how, the scripts of these names say. Early precision and AUPRC are over
chance (1 is what random scores get), AUROC is the mean of the factors' own (0.5 is chance). Brackets: 95 %, by a
bootstrap over transcription factors, and seeds where a method is random. The model is the demo model. It was trained on
pbmc3k and baron_h1, on which choices were made, and on none of the test sets.

"factors", "covariation" (within types of cells, their mean), "context" and "attention" are `xt.tl.gene_network`'s;
"gene table" is the cosine of rows of the model's gene table, which no cell changes.

Not all methods read as many cells. Pearson, Spearman and mean expression read all of a set; "covariation" 200 of them,
"context" and "attention" 80; "trees" were fitted to 400, so what is said of them holds for trees of 400 cells, which
more cells may make better.
"""


def main() -> None:
    report = json.loads((RESULTS / "gene_network.json").read_text())
    lines = [HEAD]
    for one in report["sets"]:
        lines += [f"## {one['name']} ({one['role']}): {one['cells']:,} cells, {one['genes']:,} genes\n"]
        for truth, result in one["truths"].items():
            lines += [*table(truth, result), *verdicts(result), ""]
    modules = RESULTS / "gene_modules.json"
    if modules.exists():
        lines += module_tables(json.loads(modules.read_text())["sets"])
    (RESULTS / "gene_network.md").write_text("\n".join(lines).rstrip() + "\n")


def table(truth: str, result: Mapping[str, Any]) -> list[str]:
    """Return a table of the methods, and what chance is."""
    lines = [
        f"**{truth}**: {result['factors']} factors, {result['known']:,} known edges, density {result['chance']:.4f}\n",
        "| | early precision | AUPRC | AUROC |",
        "|---|---|---|---|",
    ]
    for name, measured in result["methods"].items():
        early, area, own = (f"{v:.2f} [{low:.2f}, {high:.2f}]" for v, low, high, _ in measured.values())
        lines.append(f"| {name} | {early} | {area} | {own} |")
    return [*lines, ""]


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each of the two better methods and measure."""
    lines = []
    for ours in ("factors", "covariation"):
        others = {name: one for name, one in result["differences"][ours].items() if name in (*COMPARED, "trees")}
        for measure in ("AUPRC ratio", "AUROC", "early precision ratio"):
            parts = []
            for verdict, word in (("beats", "beats"), ("ties", "ties with"), ("loses", "loses to")):
                names = [
                    f"{name} ({one[measure][0]:+.2f})" for name, one in others.items() if one[measure][3] == verdict
                ]
                parts += [f"{word} {'; '.join(names)}"] if names else []
            lines.append(f"* {measure}: {ours} {', '.join(parts)}.")
    return lines


def module_tables(sets: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "## Modules\n",
        "About 20 modules of each; the share of gene sets that a module holds more of than by chance, the share of",
        "modules that hold one, and the adjusted Rand index of two halves of the cells (of two seeds, for vectors that",
        "are of no cells). Intervals draw sets as if each were its own; pathway sets share genes, so those intervals",
        "are narrower than the sets' evidence.\n",
    ]
    for one in sets:
        lines += [f"**{one['name']}** ({one['role']})\n",
                  "| | modules | hallmark sets | pathways | modules with a pathway | halves |",
                  "|---|---|---|---|---|---|"]  # fmt: skip
        for name, found in one["methods"].items():
            shares = [found[kind]["enriched"] for kind in ("hallmark", "canonical pathways")]
            hallmark, pathways = (f"{v:.3f} [{low:.3f}, {high:.3f}]" for v, low, high, _ in shares)
            number, halves = (sum(found[key]) / len(found[key]) for key in ("modules", "halves"))
            lines.append(f"| {name} | {number:.1f} | {hallmark} | {pathways} | "
                         f"{found['canonical pathways']['modules with one']:.2f} | {halves:.2f} |")  # fmt: skip
        lines.append("")
        for ours, others in one["differences"].items():
            parts = [f"{value['canonical pathways'][3]} {name} ({value['canonical pathways'][0]:+.3f})"
                     for name, value in others.items()]  # fmt: skip
            lines.append(f"* Pathways: {ours} {', '.join(parts)}.")
        lines.append("")
    return lines


if __name__ == "__main__":
    main()
