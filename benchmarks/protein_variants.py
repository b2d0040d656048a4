"""How well does a protein model rank measured variants it was never trained on? Beside a random one and simple scales.

python benchmarks/protein_variants.py MODEL --out benchmarks/results/protein_variants.json

The variants are those of TEM-1 beta-lactamase (Firnberg 2014; 5,397, without 199 that change no residue). A model is
scored by each method that it was trained for, and beside it a network of the same shape with random weights, the
BLOSUM62 matrix (NCBI, public domain), and the change of hydropathy (Kyte and Doolittle 1982) and volume (Zamyatnin
1972), each divided by its mean over pairs. Spearman with 95 % of a bootstrap over variants; differences are paired.
"""

import argparse
import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from embed import describe_machine

from xtrimogene.long_work import whole_file
from xtrimogene.protein.network.checkpoint import ProteinModel, load_protein_model
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.network.trained_by import trained_by
from xtrimogene.protein.probe.intervals import spearman_difference, spearman_interval
from xtrimogene.protein.sequences.fasta import read_fasta
from xtrimogene.protein.variants.notation import Variant, read_variants
from xtrimogene.protein.variants.scores import VariantMethod, score_variants

SHARED = Path(__file__).resolve().parents[2] / "shared"
METHODS: dict[VariantMethod, str] = {"masked_marginal": "mlm", "wild_type_marginal": "mlm", "clm": "clm"}

LETTERS = "ARNDCQEGHILKMFPSTWYV"
BLOSUM62 = """
4
-1 5
-2 0 6
-2 -2 1 6
0 -3 -3 -3 9
-1 1 0 0 -3 5
-1 0 0 2 -4 2 5
0 -2 0 -1 -3 -2 -2 6
-2 0 1 -1 -3 0 0 -2 8
-1 -3 -3 -3 -1 -3 -3 -4 -3 4
-1 -2 -3 -4 -1 -2 -3 -4 -3 2 4
-1 2 0 -1 -3 1 1 -2 -1 -3 -2 5
-1 -1 -2 -3 -1 0 -2 -3 -2 1 2 -1 5
-2 -3 -3 -3 -2 -3 -3 -3 -1 0 0 -3 0 6
-1 -2 -2 -1 -3 -1 -1 -2 -2 -3 -3 -1 -2 -4 7
1 -1 1 0 -1 0 0 0 -1 -2 -2 0 -1 -2 -1 4
0 -1 0 -1 -1 -1 -1 -2 -2 -1 -1 -1 -1 -2 -1 1 5
-3 -3 -4 -4 -2 -2 -3 -2 -2 -3 -2 -3 -1 1 -4 -3 -2 11
-2 -2 -2 -3 -2 -1 -2 -3 2 -1 -1 -2 -1 3 -3 -2 -2 2 7
0 -3 -3 -3 -1 -2 -2 -3 -3 3 1 -2 1 -1 -2 -2 0 -3 -1 4
"""
HYDROPATHY = dict(
    zip(
        LETTERS,
        [
            1.8,
            -4.5,
            -3.5,
            -3.5,
            2.5,
            -3.5,
            -3.5,
            -0.4,
            -3.2,
            4.5,
            3.8,
            -3.9,
            1.9,
            2.8,
            -1.6,
            -0.8,
            -0.7,
            -0.9,
            -1.3,
            4.2,
        ],
        strict=True,
    )
)
VOLUME = dict(  # cubic angstroms
    zip(
        LETTERS,
        [88.6, 173.4, 114.1, 111.1, 108.5, 143.8, 138.4, 60.1, 153.2, 166.7]
        + [166.7, 168.6, 162.9, 189.9, 112.7, 89.0, 116.1, 227.8, 193.6, 140.0],
        strict=True,
    )
)


def main() -> None:
    options = read_options()
    torch.set_num_threads(options.threads)
    model = load_protein_model(options.model)
    names, sequences = zip(*read_fasta(options.shared / "data/protein/beta_lactamase_dms.fasta"), strict=True)
    measured = np.asarray([float(name.rsplit("|", 1)[1]) for name in names])
    wild_type = "".join(Counter(column).most_common(1)[0][0] for column in zip(*sequences, strict=True))
    chosen = np.flatnonzero([sequence != wild_type for sequence in sequences])
    if options.variants is not None:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, options.variants, replace=False))
    scores = all_scores(model, wild_type, [sequences[i] for i in chosen], options)
    report = {
        "model": model.name,
        "trained_by": sorted(trained_by(model) or ()),
        "training": {name: model.card[name] for name in ("tokens", "final_losses") if name in model.card},
        "wild_type": wild_type,
        **compare(measured[chosen], scores),
        "machine": describe_machine(),
    }
    for name, found in report["spearman"].items():
        print(f"{name:<36}{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]")
    if options.out is not None:
        with whole_file(options.out) as whole:
            whole.write_text(json.dumps(report, indent=1) + "\n")


def all_scores(
    model: ProteinModel, wild_type: str, variants: list[str], options: argparse.Namespace
) -> dict[str, np.ndarray]:
    random = ProteinModel(ProteinLM(model.network.config, seed=options.seed).eval(), model.tokenizer, {}, "random")
    known, scores = trained_by(model), {}
    for method, objective in METHODS.items():
        if known is None or objective in known:
            for name, network in (("model", model), ("random weights", random)):
                scores[f"{name}, {method}"] = score_variants(
                    network, wild_type, variants, method=method, device=options.device
                )
    changes = read_variants(variants, wild_type)
    return scores | {"BLOSUM62": blosum62(changes), "hydropathy and volume": physical(changes)}


def compare(measured: np.ndarray, scores: dict[str, np.ndarray]) -> dict[str, object]:
    return {
        "variants": len(measured),
        "spearman": {name: as_dict(spearman_interval(measured, found)) for name, found in scores.items()},
        "above": {
            f"{ours} above {theirs}": as_dict(spearman_difference(measured, scores[ours], scores[theirs]))
            for ours in scores
            for theirs in scores
            if ours.startswith("model") and not theirs.startswith("model")
        },
    }


def as_dict(interval: object) -> dict[str, float]:
    return {name: getattr(interval, name) for name in ("mean", "low", "high")}


def blosum62(variants: list[Variant]) -> np.ndarray:
    rows = [[int(score) for score in row.split()] for row in BLOSUM62.split("\n")[1:-1]]
    of_pair = {(a, b): rows[i][j] for i, a in enumerate(LETTERS) for j, b in enumerate(LETTERS[: i + 1])}
    of_pair |= {(b, a): score for (a, b), score in of_pair.items()}
    return sum_over(variants, lambda old, new: of_pair[old, new])


def physical(variants: list[Variant]) -> np.ndarray:
    pairs = list(combinations(LETTERS, 2))
    spreads = [np.mean([abs(scale[a] - scale[b]) for a, b in pairs]) for scale in (HYDROPATHY, VOLUME)]

    def likeness(old: str, new: str) -> float:
        changes = [abs(scale[old] - scale[new]) for scale in (HYDROPATHY, VOLUME)]
        return -float(np.dot(changes, np.reciprocal(spreads)))

    return sum_over(variants, likeness)


def sum_over(variants: list[Variant], score: object) -> np.ndarray:
    return np.asarray([sum(score(one.wild_type, one.mutant) for one in variant) for variant in variants], np.float64)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a protein model")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder that holds data/")
    parser.add_argument("--variants", type=int, help="so many, drawn at random; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
