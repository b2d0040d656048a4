"""How predictors of perturbation effects stand to the training mean, and our gene embeddings to random ones.

nice python benchmarks/perturbation.py --out benchmarks/results/perturbation.json --cache /tmp/perturbation
python benchmarks/perturbation.py --report benchmarks/results/perturbation.json > benchmarks/results/perturbation.md

Tasks: Papalexi 2021 (25 knock-outs, 258 genes of the model): perturbations, and replicates, held out; Kang 2018
(interferon, 12,205 genes; without networks, which take long there): cell types held out; Zhao 2021 (panobinostat, 290
genes): patients held out; and simulated pairs of genes, none, one or both of which were seen, that add up or interact.
The real sets were looked at while the methods were made (denoising was added after Kang, and which sources of likeness
are worth trying was seen on Papalexi): only kernels, strengths and epochs are chosen blindly, on nested folds.
Everything is counted from one half of the control cells and judged by the other (`EffectSums.apart`), whose noise would
otherwise be in the prediction and in the truth. Gene states (of up to 120 cells), co-expression and PCA loadings are of
the first half, too, and of no context that is held out. Three seeds deal the control cells, the folds and random
vectors; there is one network of random weights. Every choice is made on folds inside the training part. Intervals are
bootstraps over perturbations (contexts) and seeds, of simulated pairs over (seed, pair): each seed simulates others;
with fewer than six units nothing is tested, and the figures only describe. A baseline, too, predicts no gene below no
expression. "other half of the cells": the effects measured in half of the cells and control cells, scored against the
other half; "noise of the truth": the mean squared error that a perfect prediction would have. Energy distance: 100
cells, the controls moved by the predicted change, against as many perturbed ones. The graph is co-membership in
MSigDB's canonical pathways (v7.5.1).
A task that is in --out already is not run again.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.evaluation.baselines import log_normalize
from xtrimogene.inference import Inference
from xtrimogene.long_work import whole_file
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.tasks.gene_states import mean_gene_embeddings
from xtrimogene.tasks.perturbation.baselines import additive, no_change, own_mean, training_mean
from xtrimogene.tasks.perturbation.cell_groups import CellGroups
from xtrimogene.tasks.perturbation.control_genes import ControlGenes
from xtrimogene.tasks.perturbation.effects import Effects, measure_halves, sum_effects
from xtrimogene.tasks.perturbation.evaluation import MEAN, Comparison, Predict, Trial, ceiling, compare
from xtrimogene.tasks.perturbation.gene_graph import edge_graph
from xtrimogene.tasks.perturbation.graph_network import GraphConfig
from xtrimogene.tasks.perturbation.metrics import METRICS, energy_distance
from xtrimogene.tasks.perturbation.part_features import PartFeatures
from xtrimogene.tasks.perturbation.predictor import (
    Asked,
    Predictor,
    choose_linear,
    fit_graph,
    inner_splits,
    linear_predictor,
)
from xtrimogene.tasks.perturbation.simulation import simulate_pairs
from xtrimogene.tasks.perturbation.splits import unseen_combinations, unseen_contexts, unseen_perturbations
from xtrimogene.tasks.unit_rows import unit_rows

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PATHWAYS = DATA / "tables" / "msigdb_c2cp_v7.5.1.gmt"
SEEDS = (0, 1, 2)
NUM_CONTROLS, NUM_CELLS, LARGEST_PATHWAY = 120, 100, 200
ELSEWHERE = "same perturbation elsewhere"
COMPARED = ("mse", "mse_top20", "pearson", "centroid_pearson")


@dataclass(frozen=True, kw_only=True, slots=True)
class RealTask:
    name: str
    file: str
    perturbation_key: str
    control: str
    group_key: str | None
    asked: Asked
    min_guide_share: float | None = None
    networks: tuple[str, ...] = ("demo", "random weights", "random vectors")


TASKS = (
    RealTask(name="papalexi: perturbations", file="papalexi_eccite_lowmoi_299g", perturbation_key="perturbation",
             control="non-targeting", group_key=None, asked="perturbation", min_guide_share=0.8),
    RealTask(name="papalexi: replicates", file="papalexi_eccite_lowmoi_299g", perturbation_key="perturbation",
             control="non-targeting", group_key="bio_rep", asked="context", min_guide_share=0.8),
    RealTask(name="kang: cell types", file="kang_ifnb_832", perturbation_key="stim", control="CTRL",
             group_key="cell_type", asked="context", networks=()),
    RealTask(name="lemur: patients", file="lemur_gbm_panobinostat_300g", perturbation_key="perturbation",
             control="ctrl", group_key="patient_id", asked="context"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cells:
    """Counts over the measured genes and over all genes of the model, and a graph of these."""

    counts: csr_matrix
    all_counts: csr_matrix
    genes: Int[np.ndarray, " M"]
    measured: Bool[np.ndarray, " G"]
    perturbation: Shaped[np.ndarray, " N"]
    context: Shaped[np.ndarray, " N"]
    graph: csr_matrix
    model: PretrainedModel
    cache: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/perturbation"))
    parser.add_argument("--only", help="run tasks whose name has this in it")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    if options.report is not None:
        print(to_markdown(json.loads(options.report.read_text())))
        return
    options.cache.mkdir(parents=True, exist_ok=True)
    done = json.loads(options.out.read_text()) if options.out.exists() else {"seeds": list(SEEDS), "tasks": {}}
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        task.name: partial(lambda task: run_real(task, read(task, options.cache)), task) for task in TASKS
    }
    for interaction in (0.0, 0.5, 1.0):
        for seen in (2, 1, 0):
            name = f"simulated pairs, interaction {interaction:g}: {seen} of 2 seen"
            runs[name] = partial(run_simulated, interaction, seen)
    for name, run in runs.items():
        if name not in done["tasks"] and (options.only is None or options.only in name):
            began = time.perf_counter()
            done["tasks"][name] = run() | {"seconds": round(time.perf_counter() - began)}
            done["tasks"] = {one: done["tasks"][one] for one in runs if one in done["tasks"]}
            with whole_file(options.out) as place:
                place.write_text(json.dumps(done, indent=1) + "\n")
            print(to_text(name, done["tasks"][name]), flush=True)


def read(task: RealTask, cache: Path) -> Cells:
    """Read the cells; gene states will be kept in the cache."""
    model = load("demo")
    adata = anndata.read_h5ad(DATA / f"{task.file}.h5ad")
    if task.min_guide_share is not None:
        adata = adata[adata.obs["guide_frac"] > task.min_guide_share].copy()
    with open_cells(adata) as cells:
        found = MatchedCounts.find(cells, model.genes)
        counts = found.all()
    perturbation = adata.obs[task.perturbation_key].astype(str).to_numpy(str)
    names = np.unique(perturbation)
    places = model.genes.match({"gene": names.tolist()}).target
    symbol = {
        name: model.genes.symbols[place] if place >= 0 else name for name, place in zip(names, places, strict=True)
    }
    return Cells(
        counts=counts[:, np.flatnonzero(found.match.measured)],
        all_counts=counts,
        genes=np.flatnonzero(found.match.measured),
        measured=found.match.measured,
        perturbation=np.array([symbol[name] if name != task.control else name for name in perturbation.tolist()]),
        context=np.full(len(perturbation), "all cells")
        if task.group_key is None
        else adata.obs[task.group_key].astype(str).to_numpy(str),
        graph=pathway_graph(model),
        model=model,
        cache=cache,
    )


def read_controls(task: RealTask, cells: Cells, groups: CellGroups, seed: int) -> dict[str, ControlGenes]:
    """Return what control cells of the half that is learned from say of genes, by where the states are from."""
    rows, model = groups.draw_controls(NUM_CONTROLS, seed), cells.model
    place = cells.cache / f"{task.name} {seed}.npz"
    if not place.exists():
        untrained = PretrainedModel(XTrimoGene(model.config, seed=1).eval().requires_grad_(False), model.genes)
        read = {"demo": model, "random weights": untrained}
        np.savez(place, **{name: states_of(one, cells, groups, rows) for name, one in read.items()})
    kept = np.load(place)
    vectors = np.random.default_rng(seed).normal(size=kept["demo"].shape[1:]).astype(np.float32)
    states = {name: kept[name] for name in ("demo", "random weights")}
    states["random vectors"] = np.broadcast_to(vectors, kept["demo"].shape)
    half = np.flatnonzero((groups.quarter >= 0) & (groups.quarter % 2 == 0))
    values = log_normalize(cells.counts[half])
    return {
        name: ControlGenes(
            context_names=groups.context_names, states=one, values=values, context=groups.place[half], graph=None
        )
        for name, one in states.items()
    }


def states_of(
    model: PretrainedModel, cells: Cells, groups: CellGroups, rows: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "C G D"]:
    inference = Inference(model, device="cpu")
    return mean_gene_embeddings(inference, cells.all_counts[rows], groups=groups.place[rows], measured=cells.measured)


def pathway_graph(model: PretrainedModel) -> csr_matrix:
    """Join genes that share pathways of up to 200 genes; an edge weighs 1 / (genes of the pathway) for each."""
    members = [line.rstrip("\n").split("\t")[2:] for line in PATHWAYS.read_text().splitlines()]
    names = sorted({gene for genes in members for gene in genes})
    place = dict(zip(names, model.genes.match({"gene": names}).target.tolist(), strict=True))
    sources, targets, weights = [], [], []
    for genes in members:
        own = np.array(sorted({place[gene] for gene in genes} - {-1}), dtype=np.int64)
        if 2 <= len(own) <= LARGEST_PATHWAY:
            row, column = np.triu_indices(len(own), 1)
            sources.append(own[row])
            targets.append(own[column])
            weights.append(np.full(len(row), 1 / len(own)))
    return edge_graph(np.concatenate(sources), np.concatenate(targets), np.concatenate(weights), len(model.genes))


def run_real(task: RealTask, cells: Cells) -> dict[str, Any]:
    by = "perturbation" if task.asked == "perturbation" else "context"
    found: list[tuple[Comparison, Comparison]] = []
    energy: dict[str, list[float]] = {}
    noise = []
    for seed in SEEDS:
        drawn = (cells.counts, cells.perturbation, cells.context, task.control)
        sums = sum_effects(*drawn, seed=seed)
        trial = to_trial(*sums.apart(), task.asked, seed)
        repeat = to_trial(*measure_halves(*drawn, min_cells=5, seed=seed), task.asked, seed)
        noise.append(noise_of_truth(trial.effects))
        distance = EnergyDistance(cells, task.control, seed, energy)
        methods = methods_of(task, cells, read_controls(task, cells, sums.groups, seed), seed)
        found.append((compare([trial], methods, by=by, each=distance), ceiling([repeat], by=by)))
    result, repeated = (joined([pair[place] for pair in found]) for place in (0, 1))
    table = to_table(result, task.asked, MEAN if task.asked == "perturbation" else ELSEWHERE) | {
        "noise of the truth": float(np.mean(noise))
    }
    table["scores"] |= repeated.as_dict()["scores"]
    for method, values in energy.items():
        table["scores"][method]["energy_distance"] = [float(np.mean(values))]
    return table


def to_trial(effects: Effects, truth: Float[np.ndarray, "E M"], asked: str, seed: int) -> Trial:
    splits = unseen_perturbations(effects, seed=seed) if asked == "perturbation" else unseen_contexts(effects)
    return Trial(effects=effects, truth=truth, splits=splits)


def noise_of_truth(effects: Effects) -> float:
    """Mean squared error of a perfect prediction: the noise of the perturbed cells and of the other control cells."""
    of_effects = 1 / effects.num_cells + 1 / effects.num_controls[effects.context]
    return float(of_effects.mean() * effects.variance.mean())


def methods_of(task: RealTask, cells: Cells, known: Mapping[str, ControlGenes], seed: int) -> dict[str, Predict]:
    names = sorted(set(cells.perturbation.tolist()) - {task.control})
    places = cells.model.genes.match({"gene": names}).target
    if task.asked == "context" and len(names) == 1:
        places[:] = -1  # a drug or cytokine, whatever gene its name may resemble
    coexpression = cache(known["demo"].coexpression)

    def linear(features_of: Callable[[tuple[str, ...]], PartFeatures]) -> Predict:
        features_of = cache(features_of)

        def predict(train: Effects, asked: Sequence[str], there: np.ndarray) -> np.ndarray:
            splits, features = only(train, task.asked, seed), features_of(train.context_names)
            return linear_predictor(train, features, choose_linear(train, features, splits)).predict(asked, there)

        return predict

    def graph(controls: ControlGenes) -> Predict:
        def predict(train: Effects, asked: Sequence[str], there: np.ndarray) -> np.ndarray:
            contexts = train.context_names
            inputs = controls.knowledge(contexts).inputs(names, places, cells.genes, coexpression(contexts))
            fitted = fit_graph(train, inputs, only(train, task.asked, seed), GraphConfig(), seed=seed)
            return Predictor(train=train, fitted=fitted).predict(asked, there)

        return predict

    methods = simple_methods()
    if task.asked == "context":
        methods[ELSEWHERE] = lambda train, asked, _: own_mean(train, asked)
    if (places >= 0).any():
        joined_graph = replace(known["demo"], graph=cells.graph)

        def of_both(contexts: tuple[str, ...]) -> PartFeatures:
            return joined_graph.knowledge(contexts).features(names, places)

        def of_graph(contexts: tuple[str, ...]) -> PartFeatures:
            both = of_both(contexts)
            return PartFeatures(parts=both.parts, sources={"graph": both.sources["graph"]})

        methods["ridge, PCA gene embeddings"] = linear(
            lambda contexts: pca_features(known["demo"].cells(contexts), cells.genes, names, places, seed)
        )
        for source, controls in known.items():
            methods[f"linear, {source}"] = linear(
                lambda contexts, controls=controls: controls.knowledge(contexts).features(names, places)
            )
        methods["linear, pathways"] = linear(of_graph)
        methods["linear, demo and pathways"] = linear(of_both)
        methods["graph, demo and pathways"] = graph(joined_graph)
    else:
        methods["linear"] = linear(lambda contexts: PartFeatures(parts=(), sources={}))
    for source in task.networks:
        methods[f"graph, {source}"] = graph(known[source])
    return methods


def simple_methods() -> dict[str, Predict]:
    return {
        "no change": lambda train, asked, _: no_change(train, asked),
        MEAN: lambda train, asked, _: training_mean(train, asked),
    }


def only(train: Effects, asked: Asked, seed: int) -> dict[Asked, Any]:
    return {kind: splits for kind, splits in inner_splits(train, seed).items() if kind == asked}


def pca_features(
    values: csr_matrix, genes: Int[np.ndarray, " M"], names: Sequence[str], places: Int[np.ndarray, " P"], seed: int
) -> PartFeatures:
    """Embed measured genes by their loadings in control cells (Ahlmann-Eltze et al. 2025); others are all zeros."""
    loadings = TruncatedSVD(10, random_state=seed).fit(values).components_.T
    row = {place: number for number, place in enumerate(genes.tolist())}
    unit = unit_rows(loadings, center=True)
    vectors = [unit[row[place]] if place in row else np.zeros(unit.shape[1]) for place in places.tolist()]
    return PartFeatures(parts=tuple(names), sources={"pca": np.array(vectors)})


class EnergyDistance:
    """Called with predictions: moves control cells by them, and keeps their distance to real perturbed cells."""

    def __init__(self, cells: Cells, control: str, seed: int, found: dict[str, list[float]]) -> None:
        self.cells, self.control, self.seed, self.found = cells, control, seed, found

    def __call__(self, number: int, method: str, test: Effects, predicted: Float[np.ndarray, "Q M"]) -> None:
        contexts = np.array(test.context_names)[test.context]
        for name, context, change in zip(test.perturbation, contexts, predicted, strict=True):
            real, controls = self.draw(name, context), self.draw(self.control, context)
            moved = np.maximum(controls + change, 0)
            self.found.setdefault(method, []).append(energy_distance(moved, real))

    def draw(self, name: str, context: str) -> Float[np.ndarray, "N M"]:
        here = np.flatnonzero((self.cells.perturbation == name) & (self.cells.context == context))
        rows = np.random.default_rng(self.seed).permutation(here)[:NUM_CELLS]
        return log_normalize(self.cells.counts[rows]).toarray()


def run_simulated(interaction: float, seen: int) -> dict[str, Any]:
    asked: Asked = "combination" if seen == 2 else "perturbation"
    found = []
    for seed in SEEDS:
        effects, truth, features = simulate_pairs(interaction=interaction, seed=seed)
        split = unseen_combinations(effects, num_seen=seen, seed=seed)
        blank = PartFeatures(parts=features.parts, sources={"vectors": random_unit(len(features.parts), seed)})

        def linear(features: PartFeatures, seed: int = seed) -> Predict:
            def predict(train: Effects, names: Sequence[str], there: np.ndarray) -> np.ndarray:
                choices = choose_linear(train, features, only(train, asked, seed))
                return linear_predictor(train, features, choices).predict(names, there)

            return predict

        methods = simple_methods() | {
            "additive": lambda train, names, _: additive(train, names),
            "linear, true features": linear(features),
            "linear, random vectors": linear(blank),
        }
        found.append(compare([Trial(effects=effects, truth=truth, splits=(split,))], methods))
    return to_table(pooled(found), asked, "additive" if seen else MEAN)


def random_unit(number: int, seed: int) -> Float[np.ndarray, "P 64"]:
    return unit_rows(np.random.default_rng(seed).normal(size=(number, 64)))


def joined(found: Sequence[Comparison]) -> Comparison:
    """Put seeds together, by the units that all of them tested."""
    units = sorted(set.intersection(*(set(one.units) for one in found)))
    places = [[one.units.index(unit) for unit in units] for one in found]
    scores = {
        method: {
            metric: np.concatenate(
                [one.scores[method][metric][:, place] for one, place in zip(found, places, strict=True)]
            )
            for metric in METRICS
        }
        for method in found[0].scores
    }
    return Comparison(units=tuple(units), scores=scores)


def pooled(found: Sequence[Comparison]) -> Comparison:
    """Put seeds together that tested different things: each is a unit of its own."""
    units = [f"seed {seed}: {unit}" for seed, one in zip(SEEDS, found, strict=True) for unit in one.units]
    scores = {
        method: {metric: np.concatenate([one.scores[method][metric] for one in found], axis=1) for metric in METRICS}
        for method in found[0].scores
    }
    return Comparison(units=tuple(units), scores=scores)


def to_table(result: Comparison, asked: Asked, baseline: str) -> dict[str, Any]:
    """Return scores with intervals, and each method's gain over the baseline to beat and over random embeddings."""
    table = {"asked": asked, "baseline": baseline, **result.as_dict(), "gains": {}}
    for method in result.scores:
        others = [baseline] if method != baseline else []
        if method.endswith(", demo"):
            others += [method.replace("demo", other) for other in ("random weights", "random vectors")]
        for other in others:
            gains = {metric: result.difference(method, other, metric) for metric in COMPARED}
            table["gains"].setdefault(method, {})[other] = {
                metric: [gain.mean, gain.low, gain.high, result.verdict(gain)] for metric, gain in gains.items()
            }
    return table


def to_text(name: str, table: Mapping[str, Any]) -> str:
    lines = [f"\n{name} ({len(table['units'])} units, {table['seconds']} s)"]
    for method, scores in table["scores"].items():
        lines.append(f"  {method:<30}" + " ".join(f"{metric}={values[0]:.4g}" for metric, values in scores.items()))
    for method, others in table["gains"].items():
        for other, gains in others.items():
            mean, low, high, verdict = gains["mse"]
            lines.append(f"  {method} {verdict} {other}: {mean:.3g} [{low:.3g}, {high:.3g}]")
    return "\n".join(lines)


def to_markdown(results: Mapping[str, Any]) -> str:
    lines = [
        "# Predicted effects of perturbations, beside baselines",
        "",
        "Written by `benchmarks/perturbation.py`, whose docstring says how; intervals of every score are in the JSON "
        "file. Marks say how a method's mean squared error stands to that of the baseline to beat, in bold, by a "
        "paired bootstrap over perturbations (contexts, simulated pairs) and three seeds: + beats, = ties, - loses, "
        "? not tested, as fewer than six were held out.",
    ]
    metrics = [*METRICS, "energy_distance"]
    marks = {"beats": "+", "ties": "=", "loses": "-", "not tested": "?"}
    for name, table in results["tasks"].items():
        lines += ["", f"## {name}", ""]
        lines.append(f"{len(table['units'])} {'contexts' if table['asked'] == 'context' else 'perturbations'} tested.")
        if "noise of the truth" in table:
            lines[-1] += (
                f" Noise of the truth: a perfect prediction would have an MSE of {table['noise of the truth']:.4f}."
            )
        lines += ["", "| method | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
        for method, scores in table["scores"].items():
            gain = table["gains"].get(method, {}).get(table["baseline"])
            label = f"**{method}**" if method == table["baseline"] else method
            mark = "" if gain is None else f" {marks[gain['mse'][3]]}"
            shown = [f"{scores[metric][0]:.4f}" if metric in scores else "" for metric in metrics]
            lines.append(f"| {label}{mark} | " + " | ".join(shown) + " |")
        lines += ["", *verdicts(table)]
    return "\n".join(lines)


def verdicts(table: Mapping[str, Any]) -> list[str]:
    """Say in a sentence each how ours stands to the baseline, and our embedding to a random one."""
    words = {"beats": "beats", "ties": "does not beat", "loses": "loses to"}
    sentences = []
    for method, others in table["gains"].items():
        for other, gains in others.items():
            if method.startswith(("linear", "graph")):
                mean, low, high, verdict = gains["mse"]
                sentences.append(
                    f"* {method} {words[verdict]} {other}: MSE lower by {mean:.2g} [{low:.2g}, {high:.2g}]."
                    if verdict in words
                    else f"* {method} was not tested against {other}: too few were held out; MSE lower by {mean:.2g}."
                )
    return sentences


if __name__ == "__main__":
    main()
