"""Does our embedding of a cell line help to predict which drugs act together? DeepDDS (O'Neil 2016), five splits.

python benchmarks/synergy.py validation --out benchmarks/results/synergy_validation.json
python benchmarks/synergy.py test --parts /tmp/synergy --out benchmarks/results/synergy.json
python benchmarks/synergy_report.py

12,415 measurements of 36 drugs in 539 pairs on 31 lines (185 twice, in either order: these stay on one side), labels
0/1 and scores; 953 genes of the lines. Left out, in three folds under three seeds: measurements, pairs, drugs (one or
both of a row), cell lines, tissues. Every answer of ours is the mean of a network's and of ridge effects of drugs, line
and pair (`xtrimogene.tasks.synergy.learned`); variants differ in what the network knows of the line: our embedding, its
log1p expression, a random vector, the embedding by random weights of the same model, nothing. Baselines: additive
effects, effects with those of known pairs, gradient boosting on one-hot and on principal axes of fingerprints and
expression. Choices of the network were made on inner folds of two thirds of the table, the first training part
of three folds (``validation`` compares them); these rows are test rows of other folds here, for all variants alike. The
baselines were not tuned: scikit-learn's defaults for boosting, a ridge of 1 for effects. Intervals draw what a split
leaves out, and seeds; differences are paired.
``test`` writes each answer to ``--parts`` and goes on where it stopped.
"""

import argparse
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from sklearn.metrics import roc_auc_score
from studies import SHARED

import xtrimogene as xt
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.evaluation.bootstrap import Interval
from xtrimogene.evaluation.pair_splits import LeftOut, PairSplits, split_pairs
from xtrimogene.evaluation.response_scores import Metric, interval, resampled
from xtrimogene.long_work import whole_file
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.tasks.synergy.baselines import Effects, boost_fingerprints, boost_one_hot
from xtrimogene.tasks.synergy.held_out import answer_splits, scores
from xtrimogene.tasks.synergy.learned import Learned, ResponseConfig
from xtrimogene.tasks.synergy.response_table import DrugSet, ResponseRows

TABLES = SHARED / "data/tables/deepdds"
SPLITS: tuple[LeftOut, ...] = ("measurement", "pair", "drug", "cell_line", "tissue")
VALUE_SPLITS: tuple[LeftOut, ...] = ("pair", "cell_line")  # of the score
SEEDS = (0, 1, 2)
RESAMPLES = 200
POOL = "mean"
NETWORKS = ("embedding", "expression", "random vectors", "random weights", "no line")
BASELINES = ("additive", "pair effects", "boosting, one-hot", "boosting, fingerprints")
LESS: dict[str, tuple[str, ...]] = {  # of the networks, where not all were trained
    "tissue": ("embedding", "expression", "no line"),
    "values": ("embedding", "expression", "no line"),
}
CONFIG = ResponseConfig(effects=False, num_networks=1)  # effects are fitted once a fold, for all variants


def networks(left_out: LeftOut, target: str) -> tuple[str, ...]:
    return LESS.get(target) or LESS.get(left_out) or NETWORKS


class Data:
    """The table as arrays, and what each variant knows of the lines."""

    def __init__(self) -> None:
        table, scored = pd.read_csv(TABLES / "new_labels_0_10.csv"), pd.read_csv(TABLES / "score_0_10.csv")
        expression = pd.read_csv(TABLES / "new_cell_features_954.csv", index_col=0, dtype=str)
        expression = expression.iloc[1:].astype(np.float32)  # the row above names transcripts
        tissue = dict(pd.read_csv(TABLES / "cell_line_0_10.csv", header=None).to_numpy().tolist())
        self.lines = expression.index.to_numpy(str)
        self.drugs = DrugSet(tuple(sorted({*table["drug1"], *table["drug2"]})))
        place = {one: number for number, one in enumerate(self.drugs.smiles)}
        rows = np.stack([table[key].map(place) for key in ("drug1", "drug2")], axis=1).astype(np.int64)
        line = table["cell"].map({one: number for number, one in enumerate(self.lines)}).to_numpy(np.int64)
        self.labels = ResponseRows(drugs=rows, lines=line, target=table["label"].to_numpy(np.float32))
        self.values = replace(self.labels, target=scored["score"].to_numpy(np.float32))
        self.tissues = np.array([tissue[one] for one in self.lines])[line]
        self.cells = AnnData(
            expression.to_numpy(),
            obs=pd.DataFrame(index=pd.Index(self.lines)),
            var=pd.DataFrame(index=expression.columns),
        )
        self.model = xt.load("demo")

    def embed(self, model: PretrainedModel, pool: Any = POOL) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # 954 genes are few, as the task gives them
            return xt.tl.embed(self.cells.copy(), model, kind="bulk", pool=pool).obsm["X_xtrimogene"]

    def vectors(self, seed: int) -> dict[str, np.ndarray]:
        own = self.embed(self.model)
        network = XTrimoGene(self.model.config, seed=seed).eval().requires_grad_(False)
        untrained = PretrainedModel(network, self.model.genes, {"name": "random"}, name="random")
        return {
            "embedding": own,
            "expression": np.log1p(self.cells.X),
            "random vectors": np.random.default_rng(seed).normal(size=own.shape).astype(np.float32),
            "random weights": self.embed(untrained),
            "no line": np.zeros((len(self.lines), 0), np.float32),
        }

    def splits(self, left_out: LeftOut, seed: int) -> PairSplits:
        return split_pairs(self.labels.drugs, self.labels.lines, left_out, tissues=self.tissues, num_folds=3, seed=seed)


def answer_all(
    data: Data, rows: ResponseRows, left_out: LeftOut, seed: int, vectors: dict[str, np.ndarray]
) -> Iterator[tuple[str, Any]]:
    """Yield each method with the function that answers a split."""
    labels = rows is data.labels
    sizes = {"num_drugs": len(data.drugs.smiles), "num_lines": len(data.lines), "labels": labels}

    def effects(combined: bool) -> Any:
        return lambda train, test: Effects.fit(rows.at(train), **sizes, combined=combined).predict(rows.at(test))

    def network(cells: np.ndarray) -> Any:
        def answer(train: np.ndarray, test: np.ndarray) -> np.ndarray:
            learned = Learned.fit(rows.at(train), data.drugs, cells, CONFIG, labels=labels, seed=seed)
            return learned.predict(rows.at(test), data.drugs, cells)

        return answer

    expression = axes(vectors["expression"], 30)  # all that 31 lines differ in
    fingerprints = axes(data.drugs.fingerprints, 35)  # and 36 drugs
    yield "additive", effects(False)
    yield "pair effects", effects(True)
    yield "boosting, one-hot", lambda train, test: boost_one_hot(rows.at(train), rows.at(test), **sizes, seed=seed)
    yield (
        "boosting, fingerprints",
        lambda train, test: boost_fingerprints(
            rows.at(train), rows.at(test), fingerprints, expression, labels=labels, seed=seed
        ),
    )
    for name in networks(left_out, "labels" if labels else "values"):
        yield name, network(vectors[name])


def test(parts: Path, seeds: Sequence[int]) -> None:
    """Answer every split by every method, a file each."""
    parts.mkdir(parents=True, exist_ok=True)
    data = Data()
    wanted = [(one, "labels") for one in SPLITS] + [(one, "values") for one in VALUE_SPLITS]
    for seed in seeds:
        vectors = data.vectors(seed)
        for left_out, target in wanted:
            rows, splits = getattr(data, target), data.splits(left_out, seed)
            for method, answer in answer_all(data, rows, left_out, seed, vectors):
                path = parts / f"{target}_{left_out}_{seed}_{method.replace(', ', '_').replace(' ', '_')}.npy"
                if path.exists():
                    continue
                began = time.process_time()
                with whole_file(path) as whole:
                    np.save(whole, answer_splits(splits, answer).predicted)
                print(path.stem, f"{time.process_time() - began:.1f} s", flush=True)


def read(parts: Path, target: str, left_out: LeftOut, method: str) -> list[np.ndarray]:
    name = method.replace(", ", "_").replace(" ", "_")
    return [np.load(parts / f"{target}_{left_out}_{seed}_{name}.npy") for seed in SEEDS]


def summarize(data: Data, parts: Path, target: str, left_out: LeftOut) -> dict[str, Any]:
    """Return metrics of every method, and differences to ours, with intervals."""
    rows, labels = getattr(data, target), target == "labels"
    metric: Metric = "auroc" if labels else "pearson"
    where = [answer_splits(data.splits(left_out, seed), lambda _, test: test.astype(np.float32)) for seed in SEEDS]
    true = [rows.target[one.rows].astype(np.float64) for one in where]
    units = [one.units for one in where]
    effects = read(parts, target, left_out, "pair effects")
    said = {name: read(parts, target, left_out, name) for name in BASELINES}
    for name in networks(left_out, target):
        alone = read(parts, target, left_out, name)
        said[f"network alone, {name}"] = alone
        said[f"ours, {name}"] = [(one + other) / 2 for one, other in zip(alone, effects, strict=True)]
    spread = {name: resampled(metric, true, answers, units, num_resamples=RESAMPLES) for name, answers in said.items()}
    ours = spread["ours, embedding"]
    table: dict[str, Any] = {"rows": len(true[0]), "units": 1 + int(units[0].max()), "metric": metric, "methods": {}}
    for name, answers in said.items():
        each = [scores(*one, labels=labels) for one in zip(true, answers, strict=True)]
        table["methods"][name] = {
            "interval": as_list(interval(spread[name])),
            "mean": {key: float(np.mean([one[key] for one in each])) for key in each[0]},
            "ours_minus_it": as_list(interval(ours - spread[name])),
            "ours_verdict": interval(ours - spread[name]).verdict,
        }
    table["embedding_alone_minus_expression_alone"] = as_list(
        interval(spread["network alone, embedding"] - spread["network alone, expression"])
    )
    if left_out == "drug" and labels:
        for number, called in ((1, "one drug left out"), (2, "both left out")):
            rows_of = [(one >= 0).sum(axis=1) == number for one in units]
            table[called] = {}
            for name, answers in said.items():
                each = [roc_auc_score(t[r], a[r]) for t, a, r in zip(true, answers, rows_of, strict=True)]
                table[called][name] = float(np.mean(each))
    return table


def as_list(one: Interval) -> list[float]:
    return [round(number, 4) for number in (one.mean, one.low, one.high)]


def validation() -> dict[str, Any]:
    """Compare choices on two inner folds of the first training part of each split: AUROC with effects, and without."""
    data = Data()
    pools = {pool: data.embed(data.model, pool) for pool in ("latent", "mean", "max", "all")}
    expression = np.log1p(data.cells.X)
    candidates: dict[str, tuple[np.ndarray, ResponseConfig]] = {
        "chosen": (pools[POOL], CONFIG),
        **{f"pool {name}": (vectors, CONFIG) for name, vectors in pools.items() if name != POOL},
        "embedding and expression": (np.hstack([pools[POOL], expression]), CONFIG),
        "embedding, 10 axes": (axes(pools[POOL], 10), CONFIG),
        "expression": (expression, CONFIG),
        "graphs": (pools[POOL], replace(CONFIG, drug_view="graph")),
        "graphs and fingerprints": (pools[POOL], replace(CONFIG, drug_view="both")),
        "100 epochs": (pools[POOL], replace(CONFIG, num_epochs=100)),
        "width 128": (pools[POOL], replace(CONFIG, width=128)),
        "dropout 0.2": (pools[POOL], replace(CONFIG, dropout=0.2)),
        "weight decay 0.01": (pools[POOL], replace(CONFIG, weight_decay=0.01)),
    }
    table: dict[str, Any] = {}
    for left_out in SPLITS[:4]:
        outer = data.splits(left_out, 0).splits[0].train.astype(np.int64)
        rows = data.labels.at(outer)
        inner = split_pairs(rows.drugs, rows.lines, left_out, seed=10)
        folds = [(one.train.astype(np.int64), one.test.astype(np.int64)) for one in inner.splits[:2]]
        sizes = {"num_drugs": len(data.drugs.smiles), "num_lines": len(data.lines), "labels": True}
        effects = [Effects.fit(rows.at(a), **sizes, combined=True).predict(rows.at(b)) for a, b in folds]
        truth = [rows.target[b] for _, b in folds]
        table[left_out] = {"effects alone": float(np.mean(list(map(roc_auc_score, truth, effects))))}
        for name, (cells, config) in candidates.items():
            alone = [
                Learned.fit(rows.at(a), data.drugs, cells, config, labels=True).predict(rows.at(b), data.drugs, cells)
                for a, b in folds
            ]
            both = [one + other for one, other in zip(alone, effects, strict=True)]
            table[left_out][name] = [float(np.mean(list(map(roc_auc_score, truth, one)))) for one in (both, alone)]
            print(left_out, name, np.round(table[left_out][name], 4), flush=True)
    return table


def axes(vectors: np.ndarray, number: int) -> np.ndarray:
    """Return the principal axes of standardized vectors; lines are few, and their expression is no test label."""
    spread = vectors.std(axis=0)
    centred = ((vectors - vectors.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float64)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    return (left[:, :number] * size[:number]).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("validation", "test"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", type=Path, default=Path("/tmp/synergy"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="the order to take them in")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "validation":
        results = validation()
    else:
        test(options.parts, options.seeds)
        data = Data()
        results = {"labels": {one: summarize(data, options.parts, "labels", one) for one in SPLITS}}
        results["values"] = {one: summarize(data, options.parts, "values", one) for one in VALUE_SPLITS}
    with whole_file(options.out) as whole:
        whole.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
