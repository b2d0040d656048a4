"""Variable-length attention on a CPU: ours, and one call a cell, beside padded batches, on real mixes of lengths.

python benchmarks/attention.py

One thread, process CPU time, minimum of interleaved rounds; heads of the 100M and 10M encoders. GFLOP/s count the real
tokens only, so padding earns nothing. Outputs are compared. (Nested tensors took over 10 GB for 32 cells and ran at a
twentieth of the rate for 8: they are left out.)
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from cells import make_counts
from embed import describe_machine
from gemm import timed
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from xtrimogene_kernels import onednn
from xtrimogene_kernels.segments import Segments
from xtrimogene_kernels.varlen_attention import varlen_attention

RESULT = Path(__file__).parent / "results" / "attention.json"
SHAPES = {"12 heads x 64": (12, 64), "8 heads x 32": (8, 32)}
GEMM = 1_024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lengths = (np.diff(make_counts(options.cells, seed=0).indptr) + 2).tolist()
    report = {shape: measure(lengths, *SHAPES[shape], options.rounds) for shape in SHAPES}
    machine = describe_machine()
    options.out.write_text(json.dumps({"cells": options.cells, **report, "machine": machine}, indent=1) + "\n")
    table = Table("", *SHAPES, title="GFLOP/s of the real tokens, one thread")
    for name in next(iter(report.values())):
        table.add_row(name, *(f"{rows[name]:.0f}" for rows in report.values()))
    Console().print(table)


def measure(lengths: list[int], num_heads: int, width: int, rounds: int) -> dict[str, float]:
    """Return GFLOP/s of each form, and of a square matrix product."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(sum(lengths), num_heads, width, generator=generator) for _ in range(3)]
    segments = Segments.from_lengths(lengths)
    forms: dict[str, Callable[[], Tensor]] = {
        "ours": partial(varlen_attention, *rows, segments, segments),
        "one torch call a cell": partial(varlen_attention, *rows, segments, segments, implementation="sdpa"),
        "padded, random batches of 8": partial(padded, rows, batches(range(len(lengths))), lengths),
        "padded, sorted batches of 8": partial(padded, rows, batches(np.argsort(lengths).tolist()), lengths),
    }
    square = torch.randn(GEMM, GEMM, generator=generator)
    products = {"torch.mm": partial(torch.mm, square, square)}
    if onednn.takes(square):
        products["oneDNN's product"] = partial(onednn.product, square, square)
    seconds, results = {}, {}
    with torch.no_grad():
        for _ in range(rounds):
            for name, form in {**forms, **products}.items():
                took, results[name] = timed(form)
                seconds[name] = min(took, seconds.get(name, took))
    for name in forms:
        torch.testing.assert_close(results[name], results["ours"], rtol=1e-4, atol=1e-5)
    flops = sum(4 * length**2 * num_heads * width for length in lengths)
    rates = {name: flops / seconds[name] / 1e9 for name in forms}
    return rates | {name: 2 * GEMM**3 / seconds[name] / 1e9 for name in products}


def batches(order: "range | list[int]") -> list[list[int]]:
    return [list(order[start : start + 8]) for start in range(0, len(order), 8)]


def padded(rows: list[Tensor], groups: list[list[int]], lengths: list[int]) -> Tensor:
    cells = [torch.split(part, lengths) for part in rows]
    out: list[Tensor] = [rows[0]] * len(lengths)
    for group in groups:
        q, k, v = (nn.utils.rnn.pad_sequence([part[i] for i in group], batch_first=True) for part in cells)
        kept = torch.arange(q.shape[1]) < torch.tensor([lengths[i] for i in group])[:, None]
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        attended = scaled_dot_product_attention(q, k, v, attn_mask=kept[:, None, None]).transpose(1, 2)
        for i, cell in zip(group, attended, strict=True):
            out[i] = cell[: lengths[i]]
    return torch.cat(out)


if __name__ == "__main__":
    main()
