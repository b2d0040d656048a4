"""How fast is a training step on a CPU? Ours beside the same model written naively, padded.

python benchmarks/train_step.py            # the 3M preset, 4 cells a step: about ten minutes on a quiet core

One thread, process CPU time, minimum of interleaved rounds: forward, backward and AdamW of one batch, masked as
`xtrimogene pretrain` masks it. The naive form (benchmarks/naive.py) starts from the same weights, and its loss and
gradients are compared. Both have the paper's decoder; "cross-attention" is ours, another function, for its time.
The share of a GEMM is given by torch.mm and by oneDNN (gemm.py); only operations that the step needs are counted.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from cells import NUM_GENES, make_counts, training_batch
from embed import describe_machine
from gemm import SHARES, Gemm, show_shares, timed
from naive import NaiveNetwork
from rich.console import Console
from rich.table import Table
from torch import Tensor

from xtrimogene.config import OptimizerConfig
from xtrimogene.model.flops import training_step_flops
from xtrimogene.model.losses import masked_squared_error
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.presets import PRESETS, model_config
from xtrimogene.training.micro_batch import MicroBatch
from xtrimogene.training.optimizer import build_optimizer

RESULT = Path(__file__).parent / "results" / "train_step.json"
TARGET = 2.0


def main() -> None:
    options = read_options()
    torch.set_num_threads(1)
    config, cross = (
        model_config(options.preset, NUM_GENES, {"decoder": {"kind": kind}})
        for kind in ("performer", "cross_attention")
    )
    networks = {
        "naive": NaiveNetwork(XTrimoGene(config)),
        "ours": XTrimoGene(config),
        "cross-attention": XTrimoGene(cross),
    }
    batch = training_batch(make_counts(options.cells, seed=0))
    check(networks["ours"], networks["naive"], batch)
    gemm = Gemm(config.decoder.dim)
    steps: dict[str, Callable[[], object]] = {
        name: step_of(network.train(), batch) for name, network in networks.items()
    }
    seconds: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, step in steps.items():
            gemm.measure()
            took, _ = timed(step)
            seconds[name] = min(took, seconds.get(name, took))
    flops = {name: training_step_flops_of(network.config, batch) for name, network in networks.items()}
    rows = {
        name: {
            "seconds_a_cell": took / options.cells,
            "faster_by": seconds["naive"] / took,
            "gflop_a_cell": flops[name] / options.cells / 1e9,
            **gemm.shares(flops[name], took),
        }
        for name, took in seconds.items()
    }
    report = {
        "preset": options.preset,
        "cells": options.cells,
        "gflop_a_cell": rows["ours"]["gflop_a_cell"],
        **gemm.report(),
        "steps": rows,
        "target": TARGET,
        "machine": describe_machine(),
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    title = f"{options.preset}, a step of {options.cells} cells, one thread"
    table = Table("", "s a cell", "faster by", *SHARES.values(), title=title)
    for name, row in rows.items():
        table.add_row(name, f"{row['seconds_a_cell']:.2f}", f"{row['faster_by']:.2f}", *show_shares(row))
    Console().print(table)
    print(f"Target: ours faster than naive by {TARGET:g}.")


def loss_of(network: XTrimoGene, batch: MicroBatch) -> Tensor:
    return masked_squared_error(network(batch.cells), batch.cells.targets) / batch.num_targets


def step_of(network: XTrimoGene, batch: MicroBatch) -> Callable[[], None]:
    optimizer = build_optimizer(network, OptimizerConfig())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(network, batch).backward()
        optimizer.step()

    return step


def check(ours: XTrimoGene, naive: XTrimoGene, batch: MicroBatch) -> None:
    """The same loss and the same gradients of the gene table, which all parts reach."""
    losses, gradients = [], []
    for network in (ours, naive):
        loss = loss_of(network, batch)
        losses.append(float(loss.detach()))
        gradients.append(torch.autograd.grad(loss, network.gene_embedding.table)[0])
    error = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    assert abs(losses[0] - losses[1]) < 1e-4 * losses[1] and error < 1e-3, (losses, error)


def training_step_flops_of(config: object, batch: MicroBatch) -> int:
    lengths = zip(batch.cells.visible.segments.lengths, batch.cells.hidden.segments.lengths, strict=True)
    size = batch.num_cells
    return sum(
        training_step_flops(config, seen + 2, asked, num_cells=size, num_decoded=size) for seen, asked in lengths
    )


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="3M")
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
