"""FAVOR+ on a CPU: streamed beside its features made whole, alone and in a decoder layer written naively.

python benchmarks/linear_attention.py            # one cell of 19,266 positions, the 100M decoder's shape: ten minutes

One thread, process CPU time, minimum of interleaved rounds. The forward's share of a GEMM is given by torch.mm and by
oneDNN (gemm.py). "GiB" is the largest memory beyond what stood before, in a process of its own.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from embed import describe_machine
from gemm import SHARES, Gemm, show_shares, timed
from memory import read_bytes
from naive import decoder_layer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from xtrimogene.config import DecoderConfig
from xtrimogene.model.flops import performer_layer_flops
from xtrimogene.model.initialization import initialize
from xtrimogene.model.transformer_block import DecoderBlock
from xtrimogene_kernels.linear_attention import linear_attention
from xtrimogene_kernels.segments import Segments

RESULT = Path(__file__).parent / "results" / "linear_attention.json"
FORMS = ("reference", "streamed")
TARGETS = {"attention": 4.0, "layer": 1.75}  # streamed is faster by, forward


def main() -> None:
    options = read_options()
    torch.set_num_threads(1)
    runs = {f"{what}, {form}": make(what, form, options) for what in ("attention", "layer") for form in FORMS}
    seconds: dict[str, dict[str, float]] = {name: {} for name in runs}
    results: dict[str, Tensor] = {}
    gemm = Gemm(options.dim)
    for _ in range(options.rounds):
        for name, (forward, both) in runs.items():
            gemm.measure()
            for kind, run in (("forward", forward), ("both", both)):
                took, out = timed(run)
                seconds[name][kind] = min(took, seconds[name].get(kind, took))
                results[f"{name}, {kind}"] = out
    for what in ("attention", "layer"):
        for kind in ("forward", "both"):
            by_reference, by_streamed = (results[f"{what}, {form}, {kind}"] for form in FORMS)
            torch.testing.assert_close(by_streamed, by_reference, rtol=1e-4, atol=1e-4)
    report = {"positions": options.positions, "decoder": {"dim": options.dim, "heads": options.heads}}
    report |= gemm.report()
    for name, row in seconds.items():
        flops = forward_flops(name, options)
        shares = gemm.shares(flops, row["forward"])
        report[name] = {**row, "gib": peak(name, options), "gflop": flops / 1e9, **shares}
    report |= {"targets": TARGETS, "machine": describe_machine()}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


def make(what: str, form: str, options: argparse.Namespace) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Return forward, and forward with backward to the rows; the same numbers for every form."""
    generator = torch.Generator().manual_seed(0)
    segments = Segments.from_lengths([options.positions])
    if what == "attention":
        shape = (options.positions, options.heads, options.dim // options.heads)
        rows = [torch.randn(shape, generator=generator) for _ in range(3)]
        projection = torch.randn(options.features, shape[-1], generator=generator)

        def call(rows: list[Tensor]) -> Tensor:
            return linear_attention(*rows, projection, segments, segments, implementation=form)
    else:
        rows = [torch.randn(options.positions, options.dim, generator=generator)]
        block = DecoderBlock(layer_config(options)).requires_grad_(False)
        initialize(block, 0)
        layer = partial(decoder_layer, block) if form == "reference" else block

        def call(rows: list[Tensor]) -> Tensor:
            return layer(*rows, segments)

    def forward() -> Tensor:
        with torch.inference_mode():
            return call(rows)

    def both() -> Tensor:
        leaves = [part.detach().requires_grad_() for part in rows]
        return torch.autograd.grad(call(leaves).square().mean(), leaves)[0] * options.positions

    return forward, both


def layer_config(options: argparse.Namespace) -> DecoderConfig:
    return DecoderConfig(dim=options.dim, num_layers=1, num_heads=options.heads, num_features=options.features)


def forward_flops(name: str, options: argparse.Namespace) -> int:
    layer = performer_layer_flops(layer_config(options), options.positions, options.positions)
    linear = 24 * options.positions * options.dim**2
    return layer if name.startswith("layer") else layer - linear


def peak(name: str, options: argparse.Namespace) -> float:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(partial(peak_here, name, options))


def peak_here(name: str, options: argparse.Namespace) -> float:
    torch.set_num_threads(1)
    _, both = make(*name.split(", "), options)
    before = most_bytes()
    both()
    return (most_bytes() - before) / 2**30


def most_bytes() -> int:
    """Return the most memory this process has held, of Linux: ru_maxrss would count the one that started it."""
    return read_bytes(Path("/proc/self/status").read_text(), "VmHWM")


def show(report: dict[str, dict[str, float]]) -> None:
    columns = ("s", "both", *SHARES.values(), "GiB", "gain", "both")
    table = Table("", *columns, title="Seconds and gains forward; both: with backward")
    for what in ("attention", "layer"):
        base = report[f"{what}, reference"]
        for form in FORMS:
            row = report[f"{what}, {form}"]
            gains = [f"{base[kind] / row[kind]:.2f}" for kind in ("forward", "both")]
            figures = (f"{row['forward']:.2f}", f"{row['both']:.2f}", *show_shares(row), f"{row['gib']:.2f}")
            table.add_row(f"{what}, {form}", *figures, *gains)
    Console().print(table)
    print("Targets: streamed faster by " + ", ".join(f"{least:g} ({what})" for what, least in TARGETS.items()) + ".")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=19_266)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--features", type=int, default=266)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
