"""Is the memory that `xtrimogene plan` tells what a training step takes? Closed form beside measured peaks.

python benchmarks/plan_memory.py             # a process a case, on one thread: about a quarter of an hour

Measured is the peak of torch's own record of allocations (the profiler's memory events) over two steps with AdamW: to
the byte, the same on every machine, and what torch.cuda.max_memory_allocated counts on a GPU. The resident size of the
process says what a CPU user pays for it: "resident" with glibc told to give each large block back at once
(MALLOC_MMAP_THRESHOLD_), which agrees with the record but for libraries and small objects; "resident_glibc" as it
comes, where freed blocks stay in the heap and may add half as much again.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import sparse
from torch.profiler import ProfilerActivity, profile

from xtrimogene.config import MaskingConfig, PretrainConfig, ReadDepthConfig
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.model.memory import training_memory
from xtrimogene.model.memory_parts import StepForm, StepSize
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.presets import model_config
from xtrimogene.training.lightning_module import Pretraining
from xtrimogene.training.micro_batch import MicroBatch, micro_batch

RESULT = Path(__file__).parent / "results" / "plan_memory.json"
MODES = ("none", "feed_forward", "layer")
EXPRESSED = 1_500
TOLERANCE = 0.15
DEMO_RUN = {"decoder_share": 0.0156, "latent_weight": 1.0, "masking": {"max_visible": 192}}  # data/demo_model.toml
CASES = [
    *({"preset": "demo", "batch_size": batch_size} for batch_size in (1, 3, 6)),
    {"preset": "demo", "batch_size": 64, **DEMO_RUN},
    {"preset": "demo", "batch_size": 6, "decoder_share": 0.5, "latent_weight": 1.0},
    *({"preset": "3M", "batch_size": batch_size} for batch_size in (1, 2, 4)),
    *({"preset": "10M", "batch_size": batch_size} for batch_size in (1, 2, 3)),
]
RESIDENT = ({"preset": "demo", "batch_size": 6}, {"preset": "3M", "batch_size": 4}, {"preset": "10M", "batch_size": 3})
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)  # what a process of its own measures
    parser.add_argument("--resident", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        print(json.dumps(measure_resident(options.case) if options.resident else measure(options.case)))
        return
    rows = []
    table = Table("case", "cells", "kept for backward", "measured MB", "closed form MB", "ratio")
    for case in CASES:
        for mode in MODES:
            row = in_a_process({**case, "activation_checkpointing": mode})
            if case in RESIDENT and mode == "none":
                row |= {"resident": in_a_process(case, GIVE_BACK)["resident"]}
                row |= {"resident_glibc": in_a_process(case, {})["resident"]}
            rows.append(row)
            name = case["preset"] + (" as run" if "masking" in case else "")
            figures = (f"{row[key] / 1e6:,.0f}" for key in ("measured", "closed"))
            table.add_row(name, str(case["batch_size"]), mode, *figures, f"{row['ratio']:.3f}")
    Console().print(table)
    worst = max(abs(row["ratio"] - 1) for row in rows)
    setting = {"expressed": EXPRESSED, "torch": torch.__version__, "unit": "bytes", "tolerance": TOLERANCE}
    options.out.write_text(json.dumps({**setting, "worst": round(worst, 4), "cases": rows}, indent=1) + "\n")
    if worst > TOLERANCE:
        raise SystemExit(f"The closed form is {worst:.0%} off in the worst case; {TOLERANCE:.0%} is allowed.")


def in_a_process(case: dict[str, Any], allocator: dict[str, str] | None = None) -> dict[str, Any]:
    """Measure one case; with an allocator's settings, the resident size."""
    command = [sys.executable, "-W", "ignore", __file__, "--case", json.dumps(case)]
    command += [] if allocator is None else ["--resident"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **(allocator or {})}
    done = subprocess.run(command, check=True, env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout.splitlines()[-1])


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Return the measured peak of a case beside the closed form, in bytes."""
    run, batches = prepare(case)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        train(run, batches)
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    steps = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    measured = int(np.cumsum(steps).max())
    closed = training_memory(
        model_config(run.preset, len(GeneVocabulary.human())),
        step_size(run, batches[-1]),
        StepForm(checkpointing=run.activation_checkpointing),
    ).total
    return {**case, "measured": measured, "closed": closed, "ratio": round(closed / measured, 4)}


def measure_resident(case: dict[str, Any]) -> dict[str, Any]:
    """Return the largest resident size above that of a process that has imported all and made its batches."""
    run, batches = prepare(case)
    before = resident_bytes("VmRSS")
    train(run, batches)
    return {**case, "resident": resident_bytes("VmHWM") - before}


def resident_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def prepare(case: dict[str, Any]) -> tuple[PretrainConfig, list[MicroBatch]]:
    """Make the run's settings and two batches of cells whose lengths scatter as those of real ones do."""
    torch.set_num_threads(1)
    settings = {**case, "masking": MaskingConfig(**case.get("masking", {}))}
    run = PretrainConfig(
        files=("none",), output="none", read_depth=ReadDepthConfig(unchanged_probability=1.0), **settings
    )
    random, num_cells, num_genes = np.random.default_rng(0), run.batch_size, len(GeneVocabulary.human())
    lengths = np.clip(random.lognormal(math.log(EXPRESSED) - 0.08, 0.4, num_cells), 300, 8_000).astype(int)
    columns = np.concatenate([np.sort(random.choice(num_genes, length, replace=False)) for length in lengths])
    counts = random.geometric(0.4, len(columns)).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    matrix = sparse.csr_matrix((counts, columns.astype(np.int32), starts), shape=(num_cells, num_genes))
    cells = CellsInMemory(matrix, np.ones((1, num_genes), dtype=bool), np.zeros(num_cells, dtype=np.int64))
    rows = np.arange(num_cells)
    return run, [micro_batch(matrix, rows, cells, run, step=step, lane=0) for step in range(2)]


def train(run: PretrainConfig, batches: list[MicroBatch]) -> None:
    """Take a step on each batch, in Lightning's order: forward, forget the last gradients, backward, clip, update."""
    num_genes = len(GeneVocabulary.human())
    module = Pretraining(XTrimoGene(model_config(run.preset, num_genes)), run, np.ones((1, num_genes), dtype=bool))
    optimizer = module.configure_optimizers()["optimizer"]
    for batch in batches:
        loss = torch.stack(list(module.errors(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), run.optimizer.gradient_clip)
        optimizer.step()


def step_size(run: PretrainConfig, batch: MicroBatch) -> StepSize:
    num_cells = run.batch_size
    return StepSize(
        num_cells=num_cells,
        num_decoded=math.ceil(run.decoder_share * num_cells),
        num_visible=round(batch.cells.visible.segments.num_rows / num_cells) + 2,
        num_hidden=round(batch.cells.hidden.segments.num_rows / num_cells),
        latent=run.latent_weight > 0,
    )


if __name__ == "__main__":
    main()
