"""What can a linear model read off a protein model's vectors? FLIP's splits, beside random weights and simple features.

python benchmarks/protein_probe.py MODEL --out benchmarks/results/protein_probe.json

GB1: the fitness of variants of four sites, by ridge regression whose strength is chosen inside the training set, on the
mean over residues and on the vectors of the sites that vary. Beside it the same of a network of the same shape with
random weights, the aligned one-hot letters and the composition. Spearman, with 95 % of a bootstrap over variants.
Secondary structure: helix, strand or other of each residue, by logistic regression on its vector; C is chosen on
held-out proteins of the training set. Beside it random weights, the residue alone, and 7 neighbours to either side.
Accuracy over residues, with 95 % of a bootstrap over proteins. Differences are paired.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from embed import describe_machine

from xtrimogene.evaluation.bootstrap import Interval
from xtrimogene.long_work import whole_file
from xtrimogene.protein.network.checkpoint import ProteinModel, load_protein_model
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.network.trained_by import reads_causally
from xtrimogene.protein.probe.flip import ProteinTask, ResidueTask, read_protein_task, read_residue_task
from xtrimogene.protein.probe.intervals import (
    accuracy_difference,
    accuracy_interval,
    spearman_difference,
    spearman_interval,
)
from xtrimogene.protein.probe.probe import classify_residues, composition, neighbor_one_hot, one_hot, regress
from xtrimogene.protein.reading.reader import ProteinReader

SHARED = Path(__file__).resolve().parents[2] / "shared"
SPLITS = ("one_vs_rest", "two_vs_rest", "three_vs_rest", "low_vs_high", "sampled")
AT_ONCE = 256  # proteins whose residues' vectors are in memory


def main() -> None:
    options = read_options()
    torch.set_num_threads(options.threads)
    model = load_protein_model(options.model)
    random = ProteinLM(model.network.config, seed=options.seed).eval()
    readers = {
        name: ProteinReader(network, model.tokenizer, device=options.device, causal=reads_causally(model))
        for name, network in (("model", model.network), ("random weights", random))
    }
    flip = options.shared / "data" / "protein" / "flip"
    report = {"model": model.name, "causal": reads_causally(model), "training": training_of(model), "tasks": []}
    if "gb1" in options.tasks:
        report["tasks"] += probe_gb1(flip / "gb1.zip", readers, options.variants)
    if "secondary_structure" in options.tasks:
        task = read_residue_task(flip / "secondary_structure.zip")
        report["tasks"].append(probe_structure(task, readers, options.residues, options.test_proteins))
    report["machine"] = describe_machine()
    if options.out is not None:
        with whole_file(options.out) as whole:
            whole.write_text(json.dumps(report, indent=1) + "\n")


def training_of(model: ProteinModel) -> object:
    return {name: model.card[name] for name in ("tokens", "final_losses") if name in model.card}


def probe_gb1(path: Path, readers: dict[str, ProteinReader], num_variants: int | None) -> list[dict]:
    """Embed each variant once, and learn from each split."""
    tasks = {split: read_protein_task(path, split) for split in SPLITS}
    sequences = sorted({sequence for task in tasks.values() for sequence in task.sequences})
    if num_variants is not None:
        order = np.random.default_rng(0).permutation(len(sequences))[:num_variants]
        kept = {tasks["two_vs_rest"].sequences[i] for i in np.flatnonzero(tasks["two_vs_rest"].train)}
        sequences = sorted(kept | {sequences[i] for i in order})  # the few that two of the splits learn from
    letters = np.asarray([list(sequence) for sequence in sequences])
    varying = np.flatnonzero((letters != letters[0]).any(axis=0))
    features = {"one-hot": one_hot(sequences), "composition": composition(sequences)}
    for name, reader in readers.items():
        features |= {f"{name}, {what}": found for what, found in embed_variants(reader, sequences, varying).items()}
    row_of = {sequence: row for row, sequence in enumerate(sequences)}
    return [probe_split(f"gb1, {split}", task, features, row_of) for split, task in tasks.items()]


def embed_variants(reader: ProteinReader, sequences: Sequence[str], varying: np.ndarray) -> dict[str, np.ndarray]:
    means, sites = [], []
    for start in range(0, len(sequences), AT_ONCE):
        ids = [reader.tokenizer.encode(sequence) for sequence in sequences[start : start + AT_ONCE]]
        for vectors in reader.residues(ids):
            means.append(vectors.mean(axis=0))
            sites.append(vectors[varying].ravel())
    return {"mean": np.stack(means), "sites": np.stack(sites)}


def probe_split(
    name: str, task: ProteinTask, features: dict[str, np.ndarray], row_of: dict[str, int]
) -> dict[str, object]:
    known = np.asarray([sequence in row_of for sequence in task.sequences])
    rows = np.asarray([row_of.get(sequence, 0) for sequence in task.sequences])
    train, test = known & task.train, known & ~task.train
    found = {
        feature: regress(values[rows[train]], task.targets[train], values[rows[test]])
        for feature, values in features.items()
    }
    truth, values = task.targets[test], {feature: one.values for feature, one in found.items()}
    return {
        "task": name,
        "metric": "spearman",
        "learned_from": int(train.sum()),
        "asked": int(test.sum()),
        "strength": {feature: one.strength for feature, one in found.items()},
        **compare(
            name,
            values,
            lambda one: spearman_interval(truth, one),
            lambda one, other: spearman_difference(truth, one, other),
        ),
    }


def probe_structure(
    task: ResidueTask, readers: dict[str, ProteinReader], num_residues: int, num_test: int | None
) -> dict[str, object]:
    """Learn from whole proteins, drawn until they have so many residues; asked are all test proteins, or so many."""
    order = np.random.default_rng(0).permutation(len(task.names))
    judged = np.asarray([mask.sum() for mask in task.masks])
    train = order[task.train[order]]
    train = train[: int(np.searchsorted(judged[train].cumsum(), num_residues)) + 1]
    test = order[~task.train[order]][:num_test]
    names = {"residue": 0, "neighbors": 7}
    labels = {
        which: of_residues(task, rows, lambda i: list(task.labels[i]))
        for which, rows in (("train", train), ("test", test))
    }
    validation = np.repeat(task.validation[train], judged[train])
    owners = np.repeat(np.arange(len(test)), judged[test])
    found = {}
    for name in (*readers, *names):
        vectors = {"train": train, "test": test}
        if name in readers:
            vectors = {which: embed_residues(task, rows, readers[name]) for which, rows in vectors.items()}
        else:
            near = names[name]
            vectors = {
                which: of_residues(task, rows, lambda i, near=near: neighbor_one_hot(task.sequences[i], near))
                for which, rows in vectors.items()
            }
        found[name] = classify_residues(vectors["train"], labels["train"], validation, vectors["test"])
    right = {
        name: np.bincount(owners, one.values == labels["test"], len(test)).astype(np.int64)
        for name, one in found.items()
    }
    return {
        "task": "secondary structure",
        "metric": "accuracy",
        "learned_from": len(validation),
        "asked": len(owners),
        "strength": {name: one.strength for name, one in found.items()},
        **compare(
            "secondary structure",
            right,
            lambda one: accuracy_interval(one, judged[test]),
            lambda one, other: accuracy_difference(one, other, judged[test]),
        ),
    }


def of_residues(task: ResidueTask, proteins: np.ndarray, values: Callable[[int], object]) -> np.ndarray:
    """Return what is said of each residue inside the masks."""
    return np.concatenate([np.asarray(values(i))[task.masks[i]] for i in proteins])


def embed_residues(task: ResidueTask, proteins: np.ndarray, reader: ProteinReader) -> np.ndarray:
    out = []
    for start in range(0, len(proteins), AT_ONCE):
        own = proteins[start : start + AT_ONCE]
        vectors = reader.residues([reader.tokenizer.encode(task.sequences[i]) for i in own])
        out += [rows[task.masks[i]] for i, rows in zip(own, vectors, strict=True)]
    return np.concatenate(out)


def compare(
    task: str,
    found: dict[str, np.ndarray],
    interval: Callable[[np.ndarray], Interval],
    difference: Callable[[np.ndarray, np.ndarray], Interval],
) -> dict[str, object]:
    scores = {name: as_dict(interval(one)) for name, one in found.items()}
    above = {
        f"{ours} above {theirs}": as_dict(difference(found[ours], found[theirs]))
        for ours in found
        for theirs in found
        if ours.startswith("model") and not theirs.startswith("model")
    }
    print(f"\n{task}")
    for name, one in scores.items():
        print(f"  {name:<28}{one['mean']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]", flush=True)
    return {"scores": scores, "above": above}


def as_dict(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a protein model")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder that holds data/")
    parser.add_argument(
        "--tasks", nargs="+", choices=("gb1", "secondary_structure"), default=["gb1", "secondary_structure"]
    )
    parser.add_argument("--variants", type=int, help="of GB1, drawn at random; default: all 8,733")
    parser.add_argument("--residues", type=int, default=60_000, help="of the structures that are learned from")
    parser.add_argument("--test-proteins", type=int, help="default: all 364")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
