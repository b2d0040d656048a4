"""What do bfloat16 and int8 gain on this CPU, and what do they change? Cell vectors beside those in float32.

python benchmarks/precision.py

One thread, process CPU time, minimum of interleaved rounds. "demo" embeds the sample cells of the wheel with the demo
model's latent vector; "100M" random weights of that shape, cells of real lengths, pooled as in scFoundation.
"error" is the norm of a cell's difference over that of its vector; "neighbours kept" the share of a cell's 15 nearest
that stay its nearest. What is gained depends on the processor: its instructions are written beside it.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from cells import make_counts
from embed import describe_machine
from gemm import timed
from rich.console import Console
from rich.table import Table
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.config import Pool
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.demo import sample_cells
from xtrimogene.inference import Inference
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.presets import model_config

RESULT = Path(__file__).parent / "results" / "precision.json"
PRECISIONS = ("float32", "bfloat16", "int8")
NUM_NEIGHBOURS = 15
INSTRUCTIONS = ("avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
TARGETS = {"int8, 100M": {"faster_by": 1.4, "mean_error": 0.015}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=24, help="of the 100M shape")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = {
        "demo": compare(load("demo"), demo_counts(), "latent", options.rounds),
        "100M": compare(random_weights("100M"), make_counts(options.cells, seed=0), "all", options.rounds),
        "targets": TARGETS,
        "machine": {**describe_machine(), "instructions": instructions()},
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


def demo_counts() -> sparse.csr_matrix:
    with open_cells(sample_cells()) as cells:
        return MatchedCounts.find(cells, load("demo").genes).all()


def random_weights(preset: str) -> PretrainedModel:
    config = model_config(preset, 19_264)
    genes = GeneVocabulary.from_symbols([f"GENE{i}" for i in range(config.num_genes)])
    return PretrainedModel(XTrimoGene(config).eval().requires_grad_(False), genes, name=preset)


def compare(model: PretrainedModel, counts: sparse.csr_matrix, pool: Pool, rounds: int) -> dict[str, dict[str, float]]:
    models = {name: Inference(model, device="cpu", precision=name) for name in PRECISIONS}
    seconds: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    vectors = {}
    for _ in range(rounds):
        for name, inference in models.items():
            took, vectors[name] = timed(lambda chosen=inference: chosen.cell_embeddings(counts, pool=pool))
            seconds[name].append(took)
    exact = vectors["float32"]
    report = {}
    for name, found in vectors.items():
        error = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
        report[name] = {
            "cells_per_cpu_second": counts.shape[0] / min(seconds[name]),
            "faster_by": min(seconds["float32"]) / min(seconds[name]),
            "mean_error": float(error.mean()),
            "largest_error": float(error.max()),
            "neighbours_kept": neighbours_kept(exact, found),
        }
    return report


def neighbours_kept(exact: np.ndarray, found: np.ndarray) -> float:
    number = min(NUM_NEIGHBOURS, (len(exact) - 1) // 5)  # of five times as many, or chance keeps most
    index = NearestNeighbors(n_neighbors=number)
    nearest = [index.fit(vectors).kneighbors(return_distance=False) for vectors in (exact, found)]
    return float(np.mean([len(np.intersect1d(*both)) / number for both in zip(*nearest, strict=True)]))


def instructions() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.is_file() else []
    return [name for name in INSTRUCTIONS if name in flags]


def show(report: dict[str, dict[str, dict[str, float]]]) -> None:
    table = Table("", "cells/CPU-s", "faster by", "mean error", "largest", "neighbours kept")
    for model in ("demo", "100M"):
        for name, row in report[model].items():
            table.add_row(
                f"{model}, {name}",
                f"{row['cells_per_cpu_second']:.2f}",
                f"{row['faster_by']:.2f}",
                f"{row['mean_error']:.4f}",
                f"{row['largest_error']:.4f}",
                f"{row['neighbours_kept']:.3f}",
            )
    Console().print(table)
    print(f"{report['machine']['processor']}: {', '.join(report['machine']['instructions'])}")


if __name__ == "__main__":
    main()
