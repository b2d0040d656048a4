"""Whether the model's gene modules are known gene sets, and whether half of the cells gives the same ones.

python benchmarks/gene_modules.py --out benchmarks/results/gene_modules.json

2,000 highly variable genes; each joined to its 15 nearest by vectors of the model, by expression (cosine of
standardised log1p CP10k, which is Pearson's correlation), by axes of the corpus that the model was trained on, by the
same network with random weights, and by random vectors; Leiden at the resolution that gives about 20 modules of 10
genes or more. Sets: MSigDB hallmark, and canonical pathways (c2.cp), with 5 to 500 of the genes. Reported: the share of
sets that some module holds more of than by chance (adjusted p up to 0.05; 95 % intervals by a bootstrap over sets and
three seeds), the share of modules that hold one, the median -log10 of a module's smallest adjusted p, and the adjusted
Rand index of modules from two halves of the cells. Vectors of no cells ("factors", corpus) are the same in both halves:
their index is that of two seeds of Leiden. Each data set is written as it comes.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gene_network import SETS
from gene_network_scores import SEEDS, Corpus, Data, read_data, untrained
from jaxtyping import Bool, Float, Float32, Int
from sklearn.metrics import adjusted_rand_score

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.data.gene_sets import read_gene_sets
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.evaluation.bootstrap import Interval, mean_difference, mean_interval
from xtrimogene.inference import Inference
from xtrimogene.long_work import whole_file
from xtrimogene.tasks.gene_network.enrichment import MAX_SIZE, MIN_SIZE, enrich, set_members
from xtrimogene.tasks.gene_network.gene_vectors import VectorMethod, gene_vectors
from xtrimogene.tasks.gene_network.modules import find_modules

ROOT = Path(__file__).resolve().parents[1]
FILES = {"hallmark": "msigdb_hallmark_v7.5.1.gmt", "canonical pathways": "msigdb_c2cp_v7.5.1.gmt"}
NUM_MODULES, LEAST_GENES, READ = 20, 10, 120
OURS = ("factors", "covariation")
Vectors = Callable[[Data, int], Float32[np.ndarray, "A _"]]


def main() -> None:
    options = read_options()
    report: dict[str, Any] = {"sets": []}
    if options.out is not None and options.out.exists():
        report = json.loads(options.out.read_text())
    model = load(options.model)
    assert model.config.latent_dim is not None
    corpus = None
    for name in options.sets or SETS:
        if name in {one["name"] for one in report["sets"]}:
            continue
        corpus = corpus or Corpus(options.shared, model.genes, model.config.latent_dim)
        data = read_data(name, options.shared, model.genes)
        members = read_members(options.shared, model.genes, data)
        table = {
            "name": name,
            "role": SETS.get(name, ""),
            "genes": len(data.genes),
            **judge(data, model, corpus, members),
        }
        print(to_text(table), flush=True)
        report |= {"model": model.name, "sha256": model.sha256}
        report["sets"].append(table)
        if options.out is not None:
            with whole_file(options.out) as scratch:
                scratch.write_text(json.dumps(report, indent=1) + "\n")


def read_members(shared: Path, vocabulary: GeneVocabulary, data: Data) -> dict[str, Bool[np.ndarray, "S A"]]:
    """Return which of the genes are in each set that can be tested."""
    found = {}
    for name, file in FILES.items():
        sets = read_gene_sets(shared / "data" / "tables" / file)
        places = [vocabulary.match({"genes": list(genes)}).target for genes in sets.values()]
        members = set_members(places, data.genes)
        size = members.sum(axis=1)
        found[name] = members[(size >= MIN_SIZE) & (size <= MAX_SIZE)]
    return found


def methods(model: PretrainedModel, corpus: Corpus) -> dict[str, Vectors]:
    def by_model(method: VectorMethod, of: Callable[[int], PretrainedModel]) -> Vectors:
        def vectors(data: Data, seed: int) -> Float32[np.ndarray, "A _"]:
            groups = np.zeros(data.counts.shape[0], dtype=np.int64)
            inference = Inference(of(seed), device="cpu")
            return gene_vectors(inference, data.counts, method, genes=data.genes, groups=groups)[0]

        return vectors

    return {
        "factors": by_model("factors", lambda seed: model),
        "covariation": by_model("covariation", lambda seed: model),
        "Pearson": lambda data, seed: standardised(data.values),
        "PCA, training corpus": lambda data, seed: corpus.loadings[data.genes].astype(np.float32),
        "random weights, factors": by_model("factors", lambda seed: untrained(model, seed)),
        "random vectors": lambda data, seed: (
            np.random.default_rng(seed).normal(size=(len(data.genes), 64)).astype(np.float32)
        ),
    }


def standardised(values: Float[np.ndarray, "N A"]) -> Float32[np.ndarray, "A N"]:
    spread = values.std(axis=0)
    return np.divide(values - values.mean(axis=0), spread, out=np.zeros_like(values), where=spread > 0).T.astype(
        np.float32
    )


def judge(
    data: Data, model: PretrainedModel, corpus: Corpus, members: dict[str, Bool[np.ndarray, "S A"]]
) -> dict[str, Any]:
    enriched: dict[str, dict[str, list[np.ndarray]]] = {}
    table: dict[str, Any] = {"methods": {}, "differences": {}}
    for name, vectors in methods(model, corpus).items():
        whole, halves = [], []
        for seed in SEEDS:
            order = np.random.default_rng(seed).permutation(data.counts.shape[0])
            first, second = (
                data.rows_of(np.sort(order[half : half + READ if name in OURS else None : 2])) for half in (0, 1)
            )
            every = data.drawn(READ, seed) if name in OURS else data
            modules = at_resolution(vectors(every, seed), seed)
            whole.append(modules)
            parts = [
                at_resolution(vectors(part, seed), seed + 10 * place) for place, part in enumerate((first, second))
            ]
            halves.append(adjusted_rand_score(*parts))
        enriched[name] = {}
        table["methods"][name] = {"modules": [int(one.max()) + 1 for one in whole], "halves": list(map(float, halves))}
        for kind, own in members.items():
            tests = [enrich(one, own) for one in whole]
            hits = [one.adjusted_p <= 0.05 for one in tests]
            enriched[name][kind] = [hit.any(axis=0).astype(float) for hit in hits]
            table["methods"][name][kind] = {
                "sets": len(own),
                "enriched": written(mean_interval(np.stack(enriched[name][kind]))),
                "modules with one": float(np.mean([hit.any(axis=1).mean() for hit in hits])),
                "-log10 p": float(np.mean([np.median(-np.log10(one.adjusted_p.min(axis=1))) for one in tests])),
            }
    for ours in OURS:
        table["differences"][ours] = {
            other: {
                kind: written(mean_difference(*(np.stack(enriched[one][kind]) for one in (ours, other))))
                for kind in members
            }
            for other in enriched
            if other not in OURS
        }
    return table


def at_resolution(vectors: Float32[np.ndarray, "A _"], seed: int) -> Int[np.ndarray, " A"]:
    """Return modules at the resolution, of those tried by halving, with the number nearest to 20."""
    low, high, best = 0.05, 8.0, None
    for _ in range(7):
        middle = float(np.sqrt(low * high))
        modules = find_modules(vectors, resolution=middle, min_size=LEAST_GENES, seed=seed)
        number = int(modules.max()) + 1
        if best is None or abs(number - NUM_MODULES) < abs(int(best.max()) + 1 - NUM_MODULES):
            best = modules
        low, high = (middle, high) if number < NUM_MODULES else (low, middle)
        if number == NUM_MODULES:
            break
    assert best is not None
    return best


def written(interval: Interval) -> list[Any]:
    return [round(interval.mean, 4), round(interval.low, 4), round(interval.high, 4), interval.verdict]


def to_text(table: dict[str, Any]) -> str:
    lines = [f"\n{table['name']} ({table['role']}): {table['genes']:,} genes"]
    for name, one in table["methods"].items():
        line = f"  {name:<26}{np.mean(one['modules']):5.1f} modules, halves {np.mean(one['halves']):.2f}"
        for kind in FILES:
            value, low, high, _ = one[kind]["enriched"]
            line += f"; {kind} {value:.3f} [{low:.3f}, {high:.3f}] of {one[kind]['sets']}"
            line += f", {one[kind]['modules with one']:.2f} of modules"
        lines.append(line)
    return "\n".join(lines)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", metavar="SET", nargs="*", help="data sets (default: all)")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="folder that holds data/")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
