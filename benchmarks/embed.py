"""How fast is a cell embedded on a CPU? Ours beside PyTorch's own encoder, cell by cell and in padded batches.

python benchmarks/embed.py            # the 100M shape, all layers: about 40 minutes on a quiet core
python benchmarks/embed.py --quick    # two layers, fewer cells: a few minutes

One thread, process CPU time, minimum of interleaved rounds, a GEMM probe between them. All encoders have the same
weights and their outputs are compared. GFLOP/s count the operations of the real tokens only, so padding earns nothing.
Their share of a GEMM is given by torch.mm and by oneDNN (gemm.py).
PyTorch's encoder runs cell by cell as it is shipped (its "fast path") and with that path off, which suits long cells.
Preparation (counts to what the encoder reads, in the model's order of genes) is timed beside a loop over rows of a
pandas frame.
"""

import argparse
import json
import math
import os
import platform
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
import torch
from cells import NUM_GENES, inference_batches, make_counts
from gemm import SHARES, Gemm, show_shares, timed
from rich.console import Console
from rich.table import Table
from scipy import sparse
from torch import Tensor, nn

from xtrimogene.config import ModelConfig
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.packed_cells import PackedCells, pack_cells
from xtrimogene.model.flops import cell_embedding_flops
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.presets import PRESETS, model_config

RESULTS = Path(__file__).parent / "results"
TARGETS = {"cell by cell": 1.15, "padded batches": 1.70, "preparation": 100.0}
OF_GEMM = {"100M": 0.78, "10M": 0.72}  # 12 x 768, 4 x 256


def main() -> None:
    options = read_options()
    torch.set_num_threads(1)
    full = model_config(options.preset, NUM_GENES)
    config = replace(full, encoder=replace(full.encoder, num_layers=options.layers or full.encoder.num_layers))
    counts = make_counts(options.cells, seed=0)
    report = {
        "preset": options.preset,
        "layers": config.encoder.num_layers,
        "cells": options.cells,
        "rounds": options.rounds,
        "tokens": describe_lengths(counts),
        "encoder": time_encoders(config, counts, options.rounds, options.batch_size),
        "preparation": time_preparation(make_counts(options.preparation_cells, seed=1)),
        "targets": TARGETS | ({"of GEMM": OF_GEMM[options.preset]} if options.preset in OF_GEMM else {}),
        "machine": describe_machine(),
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


def time_encoders(config: ModelConfig, counts: sparse.csr_matrix, rounds: int, batch_size: int) -> dict[str, object]:
    network = XTrimoGene(config).eval().requires_grad_(False)
    theirs = as_torch_encoder(network)
    source = torch.from_numpy(np.asarray(counts.sum(axis=1)).ravel()).log10()
    packed = network.append_read_depth(pack_cells(counts), source, source)
    embedded = network.value_embedding(packed.values) + network.gene_embedding(packed.gene_ids)  # theirs gets it free
    cells = list(torch.split(embedded, list(packed.segments.lengths)))
    batches = inference_batches(network, counts, torch.device("cpu"))

    def ours() -> Tensor:
        return torch.cat([network.embed_cells(batch, "all") for batch in batches])

    def cell_by_cell(fast_path: bool) -> Tensor:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        return torch.stack([pool(theirs(cell[None])[0]) for cell in cells])

    def padded_batches() -> Tensor:
        torch.backends.mha.set_fastpath_enabled(False)  # takes nested tensors here, more than ten times slower
        return torch.cat([padded(theirs, cells[i : i + batch_size]) for i in range(0, len(cells), batch_size)])

    runs: dict[str, Callable[[], Tensor]] = {
        "ours": ours,
        "cell by cell": partial(cell_by_cell, fast_path=True),
        "cell by cell, fast path off": partial(cell_by_cell, fast_path=False),
        "padded batches": padded_batches,
    }
    gemm, results = Gemm(config.encoder.dim), {}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, run in runs.items():
                gemm.measure()
                elapsed, results[name] = timed(run)
                seconds[name].append(elapsed)
    # each method gives the cells in the order of its own batches
    order = np.argsort(np.diff(counts.indptr), kind="stable")
    difference = (results["ours"] - results["cell by cell"][order]).abs().max().item()
    assert difference < 1e-3, difference
    for name in ("cell by cell, fast path off", "padded batches"):
        assert (results[name] - results["cell by cell"]).abs().max() < 1e-3, name

    flops = sum(cell_embedding_flops(config, length) for length in packed.segments.lengths)
    rows = {
        name: {
            "seconds_per_cell": min(seconds[name]) / len(cells),
            "gflops": flops / min(seconds[name]) / 1e9,
            **gemm.shares(flops, min(seconds[name])),
            "ours_is_faster_by": min(seconds[name]) / min(seconds["ours"]),
        }
        for name in runs
    }
    report = {"gflop_per_cell": flops / len(cells) / 1e9, "largest_difference": difference}
    return gemm.report() | report | rows


def as_torch_encoder(network: XTrimoGene) -> nn.TransformerEncoder:
    """PyTorch's encoder with the same weights."""
    config = network.config.encoder
    layer = nn.TransformerEncoderLayer(
        config.dim, config.num_heads, 4 * config.dim, dropout=0.0, batch_first=True, norm_first=config.norm_first
    )
    encoder = nn.TransformerEncoder(layer, config.num_layers, nn.LayerNorm(config.dim), enable_nested_tensor=False)
    names = {
        "self_attn.in_proj_": "attention.qkv.",
        "self_attn.out_proj.": "attention.out.",
        "linear1.": "expand.",
        "linear2.": "contract.",
        "norm1.": "attention_norm.",
        "norm2.": "feed_forward_norm.",
        "layers.": "blocks.",
    }
    own, state = network.encoder.state_dict(), {}
    for name in encoder.state_dict():
        ours = name
        for old, new in names.items():
            ours = ours.replace(old, new)
        state[name] = own[ours]
    encoder.load_state_dict(state)
    return encoder.eval().requires_grad_(False)


def padded(encoder: nn.TransformerEncoder, cells: list[Tensor]) -> Tensor:
    x = nn.utils.rnn.pad_sequence(cells, batch_first=True)
    lengths = torch.tensor([len(cell) for cell in cells])
    tokens = encoder(x, src_key_padding_mask=torch.arange(x.shape[1]) >= lengths[:, None])
    return torch.stack([pool(cell[:length]) for cell, length in zip(tokens, lengths, strict=True)])


def pool(tokens: Tensor) -> Tensor:
    return torch.cat([tokens[-1], tokens[-2], tokens[:-2].amax(0), tokens[:-2].mean(0)])


def time_preparation(counts: sparse.csr_matrix) -> dict[str, float]:
    """Counts to genes and values: packed, and row by row from a frame, as a notebook does it."""
    genes = [f"GENE{i}" for i in range(NUM_GENES)]
    order = np.random.default_rng(2).permutation(NUM_GENES)[: NUM_GENES - 1_000]  # another order, some genes missing
    names, counts = [genes[i] for i in order], counts[:, order].tocsr()
    frame = pd.DataFrame(counts.toarray(), columns=names)
    match = GeneVocabulary.from_symbols(genes).match({"var_names": names})
    num_cells = counts.shape[0]

    def ours() -> PackedCells:
        return pack_cells(match.apply(counts))

    def row_loop() -> list[tuple[Tensor, Tensor]]:
        cells = []
        for row in range(num_cells):
            cell = frame.iloc[row].reindex(genes, fill_value=0.0)
            total = cell.sum()
            values = np.log1p(cell / total * 1e4).tolist()
            tokens = torch.tensor([*values, math.log10(total), math.log10(total)])
            shown = tokens > 0
            cells.append((shown.nonzero().squeeze(1), tokens[shown]))
        return cells

    packed_cells, looped_cells = ours(), row_loop()  # two tokens for the read depth end each cell of the loop
    assert torch.equal(torch.cat([genes[:-2] for genes, _ in looped_cells]), packed_cells.gene_ids)
    torch.testing.assert_close(torch.cat([values[:-2] for _, values in looped_cells]), packed_cells.values)
    packed = min(timed(ours)[0] for _ in range(20)) / num_cells
    looped = min(timed(row_loop)[0] for _ in range(3)) / num_cells
    return {"packed_us": packed * 1e6, "row_loop_us": looped * 1e6, "ours_is_faster_by": looped / packed}


def describe_lengths(counts: sparse.csr_matrix) -> dict[str, float]:
    lengths = np.diff(counts.indptr) + 2
    return {"median": float(np.median(lengths)), "shortest": int(lengths.min()), "longest": int(lengths.max())}


def describe_machine() -> dict[str, object]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "pandas": pd.__version__,
    }


def show(report: dict[str, object]) -> None:
    encoder, preparation, targets = report["encoder"], report["preparation"], report["targets"]
    title = f"{report['preset']}, {report['layers']} layers, {report['cells']} cells, one thread, CPU time"
    table = Table("", "s a cell", "GFLOP/s", *SHARES.values(), "faster by", "target", title=title)
    for name in ("ours", "cell by cell", "cell by cell, fast path off", "padded batches"):
        row = encoder[name]
        target = f">= {targets[name]:.2f}" if name in targets else ""
        if name == "ours" and "of GEMM" in targets:
            target = f">= {targets['of GEMM']:.2f} of mm"
        figures = (f"{row['seconds_per_cell']:.3f}", f"{row['gflops']:.0f}", *show_shares(row))
        table.add_row(name, *figures, f"{row['ours_is_faster_by']:.2f}", target)
    Console().print(table)
    packed, looped = preparation["packed_us"], preparation["row_loop_us"]
    Console().print(
        f"Preparation: {packed:.0f} us a cell packed, {looped:,.0f} us in a row loop: "
        f"{preparation['ours_is_faster_by']:.0f} x (target {targets['preparation']:.0f} x)"
    )


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="100M")
    parser.add_argument("--layers", type=int, help="default: the preset's; fewer are quicker and each costs the same")
    parser.add_argument("--cells", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=32, help="of the padded batches")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--preparation-cells", type=int, default=300)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="default: results/embed_PRESET.json")
    options = parser.parse_args()
    options.out = options.out or RESULTS / f"embed_{options.preset}.json"
    if options.quick:
        options.layers, options.cells, options.rounds, options.preparation_cells = options.layers or 2, 32, 2, 50
    return options


if __name__ == "__main__":
    main()
