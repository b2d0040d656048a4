"""Whether the model's gene networks find known targets of factors, and better than what needs no model.

python benchmarks/gene_network.py --out benchmarks/results/gene_network.json

Known edges: TRRUST v2 and DoRothEA A-C. Pairs: a factor that is expressed in 2 % of the cells and has a known target
here, with each of the 2,000 highly variable genes and all such factors (BEELINE, Pratapa 2020). Early precision and
AUPRC over chance, and the mean AUROC of the factors' own targets; 95 % intervals by a bootstrap over factors and, where
a method is random, three seeds; differences are paired. "trees" (as GENIE3) are fitted to 100 targets in 400
cells, and compared on those targets alone; the other baselines read all cells. The corpus baselines know the cells that
the demo model was trained on, and no network.

Choices were made on pbmc3k and baron_h1, which the model was trained on; hao_pbmc_1336, kang_ifnb_832 and
camp_fetalcortex_220 were opened once. The BEELINE networks at hand are of hESC and hepatocyte-like cells, which none of
our data has, so they are not used. Each data set is written to --out as it comes; the same command goes on with those
that are not there. Modules: gene_modules.py.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from gene_network_scores import (
    SEEDS,
    Corpus,
    Data,
    Scores,
    baselines,
    by_attention,
    by_table,
    by_vectors,
    read_data,
    trees,
    untrained,
)
from jaxtyping import Bool, Float, Int

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.evaluation.bootstrap import Interval, mean_interval, summarize, unit_weights
from xtrimogene.evaluation.edge_ranking import EdgeRanking, source_aurocs
from xtrimogene.long_work import whole_file

ROOT = Path(__file__).resolve().parents[1]
SETS = {"pbmc3k": "choices", "baron_h1": "choices", "hao_pbmc_1336": "test", "kang_ifnb_832": "test",
        "camp_fetalcortex_220": "test"}  # fmt: skip
OURS = ("factors", "covariation", "context", "attention", "gene table")
MEASURES = ("early precision ratio", "AUPRC ratio", "AUROC")
READ, DECODED, FITTED, NUM_TARGETS = 200, 80, 400, 100  # cells read, decoded, fitted by trees; targets of trees
CELLS_READ = {"covariation": READ, "context": DECODED, "attention": DECODED, "trees": FITTED}  # at most; others: all


def main() -> None:
    options = read_options()
    report: dict[str, Any] = {"sets": []}
    if options.out is not None and options.out.exists():
        report = json.loads(options.out.read_text())
    model = load(options.model)
    corpus = None
    for name in options.sets or SETS:
        if name in {one["name"] for one in report["sets"]}:
            continue
        began = time.perf_counter()
        assert model.config.latent_dim is not None
        corpus = corpus or Corpus(options.shared, model.genes, model.config.latent_dim)
        data = read_data(name, options.shared, model.genes)
        scores = all_scores(model, data, corpus)
        table = judge(data, scores, options.resamples)
        print(to_text(table), flush=True)
        report |= {"model": model.name, "sha256": model.sha256, "cells_read": CELLS_READ}
        report["sets"].append({**table, "seconds": round(time.perf_counter() - began, 1)})
        if options.out is not None:
            with whole_file(options.out) as scratch:
                scratch.write_text(json.dumps(report, indent=1) + "\n")


def all_scores(model: PretrainedModel, data: Data, corpus: Corpus) -> dict[str, list[Scores]]:
    """Return each method's scores, one array a seed."""
    read, decoded = data.drawn(READ), data.drawn(DECODED)
    random = [untrained(model, seed) for seed in SEEDS]
    return {
        "factors": [by_vectors(model, read, "factors")],
        "covariation": [by_vectors(model, read, "covariation")],
        "context": [by_vectors(model, decoded, "context")],
        "attention": [by_attention(model, decoded)],
        "gene table": [by_table(model, data)],
        "random weights, factors": [by_vectors(one, read, "factors") for one in random],
        "random weights, covariation": [by_vectors(one, read, "covariation") for one in random],
        **baselines(data, corpus),
    }


def judge(data: Data, scores: dict[str, list[Scores]], num_resamples: int) -> dict[str, Any]:
    table: dict[str, Any] = {"name": data.name, "role": SETS.get(data.name, ""), "cells": data.counts.shape[0],
                             "genes": len(data.genes), "truths": {}}  # fmt: skip
    asked = data.factors[:, None] != data.genes
    everything = np.arange(len(data.genes))
    known_any = np.logical_or.reduce(list(data.known.values())).any(axis=0)
    few = np.sort(np.random.default_rng(0).permutation(np.flatnonzero(known_any))[:NUM_TARGETS])
    fitted = data.drawn(FITTED)
    with_trees = {name: [one[:, few] for one in many] for name, many in scores.items()}
    with_trees["trees"] = [trees(fitted, few, seed) for seed in SEEDS]
    for truth, known in data.known.items():
        table["truths"][truth] = compare(scores, known, asked, everything, num_resamples)
        table["truths"][f"{truth}, {len(few)} targets"] = compare(with_trees, known, asked, few, num_resamples)
    return table


def compare(
    scores: dict[str, list[Scores]],
    known: Bool[np.ndarray, "T A"],
    asked: Bool[np.ndarray, "T A"],
    targets: Int[np.ndarray, " t"],
    num_resamples: int,
) -> dict[str, Any]:
    """Measure each method on these targets, for the factors that have one of them, and ours less each baseline."""
    known, asked = known[:, targets], asked[:, targets]
    sources = np.flatnonzero((known & asked).any(axis=1))
    known, asked = known[sources], asked[sources]
    weights = unit_weights(len(sources), num_resamples, 0)
    ratios: dict[str, Float[np.ndarray, "S R 2"]] = {}
    areas: dict[str, Float[np.ndarray, "S T"]] = {}
    for name, many in scores.items():
        own = [one[sources] for one in many]
        ratios[name] = np.stack([EdgeRanking.of(one, known, asked).ratios(weights) for one in own])
        areas[name] = np.stack([source_aurocs(one, known, asked) for one in own])
    density = EdgeRanking.of(own[0], known, asked).density
    measured = {name: measure(ratios[name], areas[name]) for name in scores}
    differences = {
        ours: {
            other: measure(*paired(ratios[ours], ratios[other]), *paired(areas[ours], areas[other]))
            for other in scores
            if other not in OURS[:4]
        }
        for ours in OURS[:4]
    }
    facts = {"factors": len(sources), "targets": len(targets), "known": int((known & asked).sum()), "chance": density}
    return {**facts, "methods": measured, "differences": differences}


def paired(ours: Float[np.ndarray, "S ..."], theirs: Float[np.ndarray, "S ..."]) -> tuple[np.ndarray]:
    return (ours - theirs,)


def measure(ratios: Float[np.ndarray, "S R 2"], areas: Float[np.ndarray, "S T"]) -> dict[str, list[Any]]:
    intervals = [summarize(ratios[..., number].T) for number in (0, 1)] + [mean_interval(areas)]
    return {name: written(interval) for name, interval in zip(MEASURES, intervals, strict=True)}


def written(interval: Interval) -> list[Any]:
    return [round(interval.mean, 4), round(interval.low, 4), round(interval.high, 4), interval.verdict]


def to_text(table: dict[str, Any]) -> str:
    lines = [f"\n{table['name']} ({table['role']}): {table['cells']:,} cells, {table['genes']:,} genes"]
    for truth, result in table["truths"].items():
        lines.append(f" {truth}: {result['factors']} factors, {result['known']} known, chance {result['chance']:.4f}")
        for name, measured in result["methods"].items():
            values = "   ".join(f"{v:6.3f} [{low:.3f}, {high:.3f}]" for v, low, high, _ in measured.values())
            lines.append(f"  {name:<28}{values}")
    return "\n".join(lines)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", metavar="SET", nargs="*", help="data sets (default: all)")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="folder that holds data/")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
