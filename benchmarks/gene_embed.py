"""How fast is every gene embedded in the context of a cell, on a CPU? Ours beside the model written naively.

python benchmarks/gene_embed.py            # scFoundation's shape, all layers: some fifteen minutes on a quiet core
python benchmarks/gene_embed.py --preset 10M

With the paper's decoder. One thread, process CPU time, minimum of interleaved rounds, cells one at a time; the naive
form (benchmarks/naive.py) has the same weights, and its answers are compared. "2,000 genes" asks for so many instead.
What genes without counts are to the first layer, ours makes once for all cells of a call; that is not in the time.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from cells import NUM_GENES, make_counts
from embed import describe_machine
from gemm import SHARES, Gemm, show_shares, timed
from naive import NaiveNetwork
from rich.console import Console
from rich.table import Table
from torch import Tensor

from xtrimogene.data.packed_cells import pack_cells
from xtrimogene.model.flops import gene_embedding_flops
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.presets import PRESETS, model_config
from xtrimogene_kernels.segments import Segments

RESULT = Path(__file__).parent / "results" / "gene_embed.json"
TARGET = 2.0  # all genes: ours is faster by


def main() -> None:
    options = read_options()
    torch.set_num_threads(1)
    config = model_config(options.preset, NUM_GENES, {"decoder": {"kind": "performer"}})
    network = XTrimoGene(config).eval().requires_grad_(False)
    networks = {"ours": network, "naive": NaiveNetwork(network).eval().requires_grad_(False)}
    counts = make_counts(options.cells, seed=0)
    some = np.sort(np.random.default_rng(0).choice(NUM_GENES, 2_000, replace=False))
    asked = {"all genes": torch.arange(NUM_GENES), "2,000 genes": torch.from_numpy(some)}
    gemm = Gemm(config.decoder.dim)
    runs: dict[str, Callable[[], Tensor]] = {}
    for name, one in networks.items():
        runs |= {f"{name}, {which}": decoding(one, counts, genes) for which, genes in asked.items()}
    seconds: dict[str, float] = {}
    results: dict[str, Tensor] = {}
    for _ in range(options.rounds):
        for name, run in runs.items():
            gemm.measure()
            took, out = timed(run)
            seconds[name] = min(took, seconds.get(name, took))
            results[name] = out
    report: dict[str, object] = {"preset": options.preset, "cells": options.cells, "target": TARGET}
    report |= gemm.report()
    lengths = (np.diff(counts.indptr) + 2).tolist()
    for which, genes in asked.items():
        difference = (results[f"ours, {which}"] - results[f"naive, {which}"]).abs().max().item()
        assert difference < 1e-3, difference
        ours, naive = (seconds[f"{name}, {which}"] for name in networks)
        flops = sum(gene_embedding_flops(config, length, len(genes), blank=True) for length in lengths)
        report[which] = {
            "seconds_a_cell": ours / options.cells,
            "naive_seconds_a_cell": naive / options.cells,
            "faster_by": naive / ours,
            **gemm.shares(flops, ours),
            "largest_difference": difference,
        }
    report["machine"] = describe_machine()
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report, list(asked))


def decoding(network: XTrimoGene, counts: object, genes: Tensor) -> Callable[[], Tensor]:
    cells = [pack_cells(counts[row]) for row in range(counts.shape[0])]
    cells = [network.append_read_depth(cell, cell.totals.log10(), cell.totals.log10()) for cell in cells]
    segments, blank = Segments.from_lengths([len(genes)]), network.blank_genes()

    def run() -> Tensor:
        with torch.inference_mode():
            decoded = [network.decode(network.encode(cell), cell, genes, segments, blank=blank) for cell in cells]
        return torch.stack(decoded)

    return run


def show(report: dict[str, dict[str, float]], asked: list[str]) -> None:
    columns = ("s a cell", "naive", "faster by", *SHARES.values())
    table = Table("", *columns, title=f"{report['preset']}, one thread, CPU time")
    for which in asked:
        row = report[which]
        figures = [f"{row[name]:.2f}" for name in ("seconds_a_cell", "naive_seconds_a_cell", "faster_by")]
        table.add_row(which, *figures, *show_shares(row))
    Console().print(table)
    print(f"Target: all genes faster by {TARGET:g}.")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="scfoundation")
    parser.add_argument("--cells", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
