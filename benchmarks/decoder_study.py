"""Does a decoder that reads less predict hidden genes as well? Validation loss by steps and by training FLOPs.

python benchmarks/decoder_study.py paper:0 cross_attention:0 --steps 800     # VARIANT:SEED, as many as wanted
python benchmarks/decoder_study.py                                           # the table of what is there

Small models (encoder 2 x 64, decoder 2 x 64) learn masked regression on real cells and nothing else, over the 4,096
genes that most training cells express and 256 visible genes a cell: one visible gene to sixteen positions, as in a
cell with all genes. They start from each gene's mean and learn the deviation, for what a long run learns in its first
steps is not the question. Validation cells are whole studies that no run trains on, and cells held out of the training
studies; their masks are the same for every model, and a hidden gene always shows the mask. A loss is the mean over
cells. FLOPs are the closed form of model/flops.py, cell by cell. A run that is in --out is skipped; each is written as
it ends, and several may go side by side. "unfinished" runs were stopped: they have a curve and no end.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decoder_variants import LatentsNetwork, ZerosNetwork, latents_flops, zeros_flops
from jaxtyping import Float, Int64
from studies import (
    SHARED,
    TRAINING,
    VALIDATION,
    cell_errors,
    hidden_means,
    hold_out,
    interval,
    read_results,
    read_studies,
    write_result,
)
from torch import Tensor

from xtrimogene.config import DecoderConfig, EncoderConfig, MaskingConfig, ModelConfig, OptimizerConfig, ReadDepthConfig
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.masking import MaskedCells, mask_cells
from xtrimogene.data.read_depth import downsample_counts
from xtrimogene.model.flops import training_step_flops
from xtrimogene.model.losses import masked_squared_error
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.optimizer import build_optimizer, build_schedule
from xtrimogene.training.spectral import gene_means


@dataclass(frozen=True)
class Variant:
    decoder: DecoderConfig
    network: Callable[..., XTrimoGene]
    flops: Callable[[ModelConfig, int, int, int], int]  # of a step's cell: visible, hidden, cells of the batch


def package_flops(config: ModelConfig, num_visible: int, num_hidden: int, batch_size: int) -> int:
    return training_step_flops(config, num_visible, num_hidden, num_cells=batch_size, num_decoded=batch_size)


RESULT = Path(__file__).parent / "results" / "decoder_study.json"
CELLS_OF_A_STUDY, VALIDATION_BATCH = 64, 32
NUM_GENES = 4096
BATCH_SIZE, PEAK_LR = 8, 2e-3
MASKING = MaskingConfig(max_visible=256)
PAPER = DecoderConfig(dim=64, num_layers=2, num_heads=2)
CROSS = replace(PAPER, kind="cross_attention")
VARIANTS: dict[str, Variant] = {
    "paper": Variant(PAPER, XTrimoGene, package_flops),
    "cross_attention": Variant(CROSS, XTrimoGene, package_flops),
    "cross_attention_4_layers": Variant(replace(CROSS, num_layers=4), XTrimoGene, package_flops),
    "latents": Variant(CROSS, LatentsNetwork, latents_flops),
    "zeros": Variant(CROSS, ZerosNetwork, zeros_flops),
}


def main() -> None:
    options = read_options()
    torch.set_num_threads(1)
    if options.runs:
        run_all(options)
    print_table(read_results(options.out))


def run_all(options: argparse.Namespace) -> None:
    cells, validation = read_cells(options.shared / "data")
    if "gene mean" not in read_results(options.out):
        means = hidden_means(cells, MASKING)
        scores = cell_errors([means[batch.hidden.gene_ids] for batch in validation], validation)
        write_result(options.out, "gene mean", {"curve": [summarise(scores)], **by_cell(scores)})
    for run in options.runs:
        variant, seed = run.split(":")
        name = f"{variant} steps={options.steps} seed={seed}"
        if name not in read_results(options.out):
            write_result(options.out, name, train(variant, int(seed), cells, validation, options))


def read_cells(folder: Path) -> tuple[CellsInMemory, list[MaskedCells]]:
    """Return the training cells, and the validation cells in batches: study after study, then those held out."""
    genes = GeneVocabulary.human()
    cells = read_studies(TRAINING, genes, folder)
    detected = np.bincount(cells.counts.indices, minlength=len(genes))
    kept = np.sort(np.argsort(-detected, kind="stable")[:NUM_GENES])
    cells = only_genes(cells, kept)
    rest, held_out = hold_out(cells, CELLS_OF_A_STUDY)
    studies = [*(only_genes(read_studies([study], genes, folder), kept) for study in VALIDATION), held_out]
    return rest, [batch for study in studies for batch in validation_batches(study)]


def only_genes(cells: CellsInMemory, kept: Int64[np.ndarray, "G"]) -> CellsInMemory:
    return replace(cells, counts=cells.counts[:, kept], measured=np.ascontiguousarray(cells.measured[:, kept]))


def validation_batches(cells: CellsInMemory) -> Iterator[MaskedCells]:
    """Some cells of a study under masks that are the same for every model; only the mask is shown."""
    generator = np.random.default_rng(0)
    masking = replace(MASKING, replace_fraction=1.0, random_fraction=0.0)
    chosen = np.sort(generator.choice(cells.counts.shape[0], CELLS_OF_A_STUDY, replace=False))
    for rows in np.split(chosen, CELLS_OF_A_STUDY // VALIDATION_BATCH):
        raw = cells.counts[rows]
        yield mask_cells(raw, raw, masking, generator, measured=cells.measured, panel=cells.panel[rows])


def train(
    variant: str, seed: int, cells: CellsInMemory, validation: list[MaskedCells], options: argparse.Namespace
) -> dict[str, Any]:
    config = ModelConfig(
        num_genes=cells.counts.shape[1],
        encoder=EncoderConfig(dim=64, num_layers=2, num_heads=2),
        decoder=VARIANTS[variant].decoder,
        num_bins=64,
    )
    network = VARIANTS[variant].network(config, seed=seed)
    fractions = (MASKING.nonzero_fraction, MASKING.zero_fraction)
    means = gene_means(cells, *(np.full(len(cells.panel), fraction) for fraction in fractions))
    torch.nn.init.zeros_(network.head.weight)
    optimizer_config = OptimizerConfig(peak_lr=PEAK_LR, warmup_steps=50)
    optimizer = build_optimizer(network, optimizer_config)
    schedule = build_schedule(optimizer, optimizer_config, options.steps)
    curve, losses, flops, began = [], [], 0, time.process_time()
    for step, batch in enumerate(training_batches(cells, options.steps, BATCH_SIZE, seed), start=1):
        optimizer.zero_grad()
        predicted = network(batch) + means[batch.hidden.gene_ids]
        loss = masked_squared_error(predicted, batch.targets) / len(batch.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), optimizer_config.gradient_clip)
        optimizer.step()
        schedule.step()
        flops += step_flops(VARIANTS[variant], config, batch)
        losses.append(loss.item())
        if step % (options.steps // options.evaluations) == 0:
            scores = evaluate(network, means, validation)
            curve.append({"step": step, "tera_flops": round(flops / 1e12, 2)} | summarise(scores))
            curve[-1] |= {"training_loss": round(float(np.mean(losses)), 5)}
            curve[-1] |= {"cpu_seconds": round(time.process_time() - began, 1)}
            losses = []
            print(variant, seed, curve[-1], flush=True)
    return {"curve": curve, **by_cell(scores)}


def by_cell(scores: dict[str, np.ndarray]) -> dict[str, Any]:
    return {"loss_of_cells": scores["loss"].round(5).tolist()}


def training_batches(cells: CellsInMemory, num_steps: int, size: int, seed: int) -> Iterator[MaskedCells]:
    """Fresh permutations; cells and masks depend on the seed alone, so that all variants read the same."""
    generator = np.random.default_rng(seed)
    rows = np.zeros(0, dtype=np.int64)
    for _ in range(num_steps):
        if len(rows) < size:
            rows = np.concatenate([rows, generator.permutation(cells.counts.shape[0])])
        here, rows = rows[:size], rows[size:]
        raw = cells.counts[here]
        inputs = downsample_counts(raw, ReadDepthConfig(), generator)
        yield mask_cells(inputs, raw, MASKING, generator, measured=cells.measured, panel=cells.panel[here])


def step_flops(variant: Variant, config: ModelConfig, batch: MaskedCells) -> int:
    """Return the operations of a step, cell by cell: their lengths differ."""
    lengths = zip(batch.visible.segments.lengths, batch.hidden.segments.lengths, strict=True)
    size = batch.visible.num_cells
    return sum(variant.flops(config, visible + 2, hidden, size) for visible, hidden in lengths)


@torch.inference_mode()
def evaluate(network: XTrimoGene, means: Tensor, validation: list[MaskedCells]) -> dict[str, np.ndarray]:
    return cell_errors([network(batch) + means[batch.hidden.gene_ids] for batch in validation], validation)


def summarise(scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return means over cells, and the loss of each study."""
    unseen = len(VALIDATION) * CELLS_OF_A_STUDY
    means = {name: round(float(values[:unseen].mean()), 5) for name, values in scores.items()}
    by_study = scores["loss"].reshape(-1, CELLS_OF_A_STUDY).mean(1).round(5).tolist()
    return means | {"seen_studies": by_study[-1], "by_study": dict(zip(VALIDATION, by_study[:-1], strict=True))}


def print_table(results: dict[str, Any]) -> None:
    """Print where each variant ends, mean over seeds, and its difference from the paper's decoder with an interval.

    The interval is a bootstrap over validation cells, each cell's difference being the mean over seeds.
    """
    for name in sorted({name.split(" seed=")[0] for name in results}):
        runs = [run for key, run in results.items() if key.split(" seed=")[0] == name]
        last = [run["curve"][-1] for run in runs]
        mean = {key: np.mean([point[key] for point in last]) for key in ("loss", "zero", "nonzero", "seen_studies")}
        text = " ".join(f"{key} {value:.4f}" for key, value in mean.items())
        flops = np.mean([point.get("tera_flops", 0.0) for point in last])
        print(f"{name}: {len(runs)} seeds, {flops:.1f} TFLOP, {text}")
    for one, other in comparisons(results):
        seeds = sorted(seeds_of(results, one) & seeds_of(results, other))
        pairs = [[np.array(results[f"{name} seed={seed}"]["loss_of_cells"]) for name in (one, other)] for seed in seeds]
        difference = np.mean([a - b for a, b in pairs], axis=0)  # of each validation cell
        unseen = len(VALIDATION) * CELLS_OF_A_STUDY
        parts = {"other studies": difference[:unseen], "held-out cells": difference[unseen:]}
        text = ", ".join(f"{part} {cells.mean():+.4f} {interval_text(cells)}" for part, cells in parts.items())
        print(f"{one} - {other}, {len(seeds)} seeds: {text}")


def comparisons(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Pair each run of a cheaper decoder with each of the paper's."""
    finished = {name.split(" seed=")[0] for name, run in results.items() if "loss_of_cells" in run}
    names = sorted(finished - {"gene mean"})
    return [
        (one, other) for one in names for other in names if not one.startswith("paper") and other.startswith("paper")
    ]


def seeds_of(results: dict[str, Any], name: str) -> set[int]:
    return {int(key.split(" seed=")[1]) for key in results if key.startswith(f"{name} seed=")}


def interval_text(differences: Float[np.ndarray, "B"]) -> str:
    low, high = interval(differences)
    return f"[{low:+.4f}, {high:+.4f}]"


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="VARIANT:SEED")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--evaluations", type=int, default=5)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
