"""What does a bigger model buy, and what each choice of the model's? Validation loss by size, and ablations.

python benchmarks/scaling_study.py 2x64:0 4x128:0 rounded_values:1      # NAME:SEED, as many as wanted
python benchmarks/scaling_report.py                                     # tables and figure of what is there

Every run is `xtrimogene.training.fit` of BASE below, with the changes of its name: masked regression on real cells over
all 20,092 genes, each cell seen about twice. It resumes where it was killed; a run that is in --out is skipped, each is
written as it ends, and several may go side by side. Loss is the mean over cells of the mean squared error of a cell's
hidden log1p values, under masks that are the same for every model and seed, in which a hidden gene always shows the
mask. Cells are of two kinds: held out of the training studies, and of four whole studies that no run trains on. "F1"
is macro-F1 of labels read off the mean-pooled encoder output by neighbours, in two of those studies. FLOPs are the
closed form of model/flops.py, parameters are all that are trained, and those besides the gene table.
"""

import argparse
import shutil
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablations import build
from embedding_quality import read_study
from studies import (
    SHARED,
    TRAINING,
    VALIDATION,
    cell_errors,
    hidden_means,
    hold_out,
    read_results,
    read_studies,
    write_result,
)

from xtrimogene.config import (
    DecoderKind,
    MaskingConfig,
    OptimizerConfig,
    PretrainConfig,
    ReadDepthConfig,
    SamplingConfig,
)
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.packed_cells import pack_cells
from xtrimogene.data.sampler import Sampler
from xtrimogene.evaluation.benchmark_sets import VALIDATION as LABELLED
from xtrimogene.evaluation.classifiers import classify
from xtrimogene.evaluation.metrics import macro_f1
from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.tasks import Study, build_task
from xtrimogene.model.flops import training_step_flops
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.presets import model_config
from xtrimogene.training.fit import fit
from xtrimogene.training.micro_batch import MicroBatch, micro_batch
from xtrimogene.training.validation import validation_batches

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "scaling_study.json"
SIZES = {"2x16": (2, 16), "2x32": (2, 32), "2x64": (2, 64), "3x96": (3, 96), "4x128": (4, 128)}
REFERENCE = "2x32"
HELD_OUT, CELLS_OF_A_STUDY = 256, 64
BASE = PretrainConfig(
    files=tuple(f"{study}.h5ad" for study in TRAINING),
    output="none",
    preset="3M",
    num_steps=1600,
    batch_size=16,
    start="spectral",
    checkpoint_every=100,
    log_every=20,
    sampling=SamplingConfig(num_lanes=1),
    masking=MaskingConfig(max_visible=512),
    optimizer=OptimizerConfig(warmup_steps=100),
)
UNTHINNED = ReadDepthConfig(unchanged_probability=1.0)
MASK_ONLY = replace(BASE.masking, replace_fraction=1.0, random_fraction=0.0)


@dataclass(frozen=True)
class Trial:
    """A name's changes of BASE and of its model; ``part`` is one of benchmarks/ablations.py."""

    size: str = REFERENCE
    run: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    decoder: DecoderKind = "cross_attention"


TRIALS = {
    **{size: Trial(size) for size in SIZES},
    "rounded_values": Trial(part="rounded_values"),
    "raw_values": Trial(part="raw_values"),
    "classification": Trial(part="classification"),
    "no_masked_zeros": Trial(run={"masking": replace(BASE.masking, zero_fraction=0.0)}),
    "one_read_depth": Trial(run={"read_depth": UNTHINNED}),
    "random_start": Trial(run={"start": "random"}),
    "paper_decoder": Trial(decoder="performer"),
}


@dataclass(frozen=True)
class Data:
    cells: CellsInMemory
    validation: dict[str, list[MicroBatch]]  # by study, masked; "held out" are cells of the training studies
    full_depth: dict[str, list[MicroBatch]]  # the same cells, none of them thinned
    labelled: dict[str, Study]


def main() -> None:
    options = read_options()
    torch.set_num_threads(1)
    data = read_data(options.shared / "data")
    if "gene mean" not in read_results(options.out):
        means = hidden_means(data.cells, BASE.masking)
        scores = {
            name: scores_of([means[batch.cells.hidden.gene_ids] for batch in batches], batches)
            for name, batches in data.validation.items()
        }
        thinned = {name: thinned_cells(batches) for name, batches in data.validation.items()}
        write_result(options.out, "gene mean", {"validation": scores, "thinned": thinned})
    for run in options.runs:
        trial, seed = run.split(":")
        changed = "".join(f" {key}={value}" for key in ("peak_lr", "num_steps") if (value := getattr(options, key)))
        name = f"{trial}{changed} seed={seed}"
        if name not in read_results(options.out):
            write_result(options.out, name, train(TRIALS[trial], name, int(seed), data, options))


def read_data(folder: Path) -> Data:
    genes = GeneVocabulary.human()
    cells, held_out = hold_out(read_studies(TRAINING, genes, folder), HELD_OUT)
    validation = {"held out": held_out} | {study: read_studies([study], genes, folder) for study in VALIDATION}
    labelled = {study: read_study(folder / f"{study}.h5ad", genes) for study in VALIDATION[1:3]}
    full_depth = masked(validation, replace(BASE, read_depth=UNTHINNED))
    return Data(cells, masked(validation, BASE), full_depth, labelled)


def masked(validation: Mapping[str, CellsInMemory], run: PretrainConfig) -> dict[str, list[MicroBatch]]:
    """Mask the validation cells as this run would, but that a hidden gene always shows the mask."""
    run = replace(run, masking=MASK_ONLY)
    sizes = {name: HELD_OUT if name == "held out" else CELLS_OF_A_STUDY for name in validation}
    return {
        name: validation_batches(cells, replace(run, validation_cells=sizes[name]))
        for name, cells in validation.items()
    }


def train(trial: Trial, name: str, seed: int, data: Data, options: argparse.Namespace) -> dict[str, Any]:
    """Train and return what is worth keeping of the run."""
    layers, dim = SIZES[trial.size]
    heads = max(1, dim // 32)
    decoder = {"kind": trial.decoder, "dim": dim, "num_layers": 2, "num_heads": heads}
    changes = {"encoder": {"dim": dim, "num_layers": layers, "num_heads": heads}, "decoder": decoder, "num_bins": 64}
    model = model_config(BASE.preset, data.cells.counts.shape[1], changes)
    run = replace(
        BASE,
        output=str(options.runs_folder / name.replace(" ", "-")),
        seed=seed,
        model=changes,
        optimizer=replace(BASE.optimizer, peak_lr=options.peak_lr or 2e-3 * (32 / dim) ** 0.5),
        num_steps=options.num_steps or BASE.num_steps,
        **trial.run,
    )
    sampler = Sampler([(len(data.cells.panel), 1.0)], batch_size=run.batch_size, config=run.sampling, seed=seed)
    module = build(model, run, data.cells.measured, trial.part)
    began = time.process_time()
    fit(module, data.cells, sampler)
    cpu_seconds = time.process_time() - began
    network = module.network.eval().requires_grad_(False)
    weights = [weight.numel() for weight in module.network.parameters()]
    result = {
        "encoder": f"{layers} x {dim}",
        "peak_lr": round(run.optimizer.peak_lr, 6),
        "parameters": sum(weights),
        "parameters_besides_genes": sum(weights) - network.gene_embedding.table.numel(),
        "cells_seen": sampler.cells_before(run.num_steps),
        "tera_flops": round(step_flops(run, model, data) * sampler.cells_before(run.num_steps) / 1e12, 3),
        "cpu_seconds": round(cpu_seconds, 1),  # of the sitting that ended the run
        "validation": validate(network, data.validation),
        "full_depth": validate(network, data.full_depth),
        "macro_f1": label_scores(network, data),
    }
    loss = result["validation"]["held out"]["loss"]
    print(f"{name}: loss of held-out cells {loss:.4f}, macro-F1 {result['macro_f1']}", flush=True)
    if not options.keep:
        shutil.rmtree(run.output)
    return result


def step_flops(run: PretrainConfig, model: Any, data: Data) -> float:
    """Return the mean operations of a training cell, from some of them."""
    rows = np.sort(np.random.default_rng(0).choice(len(data.cells.panel), 512, replace=False))
    batch = micro_batch(data.cells.counts[rows], rows, data.cells, run, step=0, lane=0).cells
    lengths = zip(batch.visible.segments.lengths, batch.hidden.segments.lengths, strict=True)
    size = run.batch_size
    flops = [
        training_step_flops(model, visible + 2, hidden, num_cells=size, num_decoded=size) for visible, hidden in lengths
    ]
    return float(np.mean(flops))


@torch.inference_mode()
def validate(network: XTrimoGene, validation: Mapping[str, list[MicroBatch]]) -> dict[str, Any]:
    return {
        name: scores_of([network(batch.cells) for batch in batches], batches) for name, batches in validation.items()
    }


def thinned_cells(batches: list[MicroBatch]) -> list[bool]:
    return torch.cat([batch.cells.visible.totals < batch.cells.raw.totals for batch in batches]).tolist()


def scores_of(predicted: list[torch.Tensor], batches: list[MicroBatch]) -> dict[str, Any]:
    errors = cell_errors(predicted, [batch.cells for batch in batches])
    return {key: round(float(values.mean()), 5) for key, values in errors.items()} | {
        "loss_of_cells": errors["loss"].round(4).tolist()
    }


@torch.inference_mode()
def label_scores(network: XTrimoGene, data: Data) -> dict[str, float]:
    """Return macro-F1 by task, of labels in two of the validation studies, by neighbours in mean-pooled tokens."""
    scores = {}
    for plan in LABELLED:
        if len(plan.sources) > 1 or plan.sources[0].study not in data.labelled:
            continue
        task = build_task(plan, data.labelled, seeds=(0,))
        parts = np.array_split(np.arange(task.counts.shape[0]), -(-task.counts.shape[0] // 16))
        vectors = np.concatenate([embed(network, task.counts[part]) for part in parts])  # (N, D)

        def predict(split: Split, _: int, labels: np.ndarray = task.labels, at: np.ndarray = vectors) -> np.ndarray:
            return classify(at[split.train], labels[split.train], at[split.test], classifier="knn")

        scores[plan.name] = round(macro_f1(task.labels[task.tested], task.predict(predict)[0]), 4)
    return scores


def embed(network: XTrimoGene, counts: Any) -> np.ndarray:
    packed = pack_cells(counts)
    depth = packed.totals.log10()
    return network.embed_cells(network.append_read_depth(packed, depth, depth), "mean").numpy()


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME:SEED", help=f"names: {', '.join(TRIALS)}")
    parser.add_argument("--peak-lr", type=float, help="default: 2e-3 at width 32, less where wider")
    parser.add_argument("--num-steps", type=int, help="default: as in BASE")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a run that has ended")
    parser.add_argument("--runs-folder", type=Path, default=ROOT / "runs" / "scaling_study")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning)
    main()
