"""What do oneDNN's products gain over PyTorch's own linear layers on this CPU? At the shapes of our networks.

python benchmarks/linear.py            # a minute on a quiet core

One thread, process CPU time, minimum of interleaved rounds; "both" is forward and backward to rows and weights.
"rows of a head" is FAVOR+'s product of the rows of a head with its features. "MB a shape" is what the process grows by
for each new number of rows: why rows are cut into blocks. Exponentials to both bases, as FAVOR+ needs many.
"""

import argparse
import json
import math
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from embed import describe_machine
from gemm import timed
from memory import read_bytes
from rich.console import Console
from rich.table import Table
from torch import Tensor

from xtrimogene_kernels import onednn
from xtrimogene_kernels.linear import linear

RESULT = Path(__file__).parent / "results" / "linear.json"
SHAPES = {  # rows, numbers of a row before and after
    "100M, expand": (1_500, 768, 3_072),
    "100M, contract": (1_500, 3_072, 768),
    "10M, expand": (1_500, 256, 1_024),
    "decoder, expand": (1_500, 512, 2_048),
    "rows of a head": (8_192, 64, 266),
    "few rows": (32, 768, 3_072),
}
FORMS = {"torch": "reference", "onednn": "onednn"}
NEW_SHAPES = 200


def main() -> None:
    options = read_options()
    torch.set_num_threads(1)
    layers = {name: measure(*shape, options.rounds) for name, shape in SHAPES.items()}
    report = {"layers": layers, "exponential_ns": exponentials(options.rounds)}
    with get_context("spawn").Pool(1) as pool:
        report["mb_a_shape"] = pool.apply(memory_of_shapes)
    report["machine"] = describe_machine()
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    table = Table("GFLOP/s", "torch", "oneDNN", "faster by", "gelu", "both", title="Linear layers, one thread")
    for name, row in layers.items():
        gains = [f"{row['torch'][kind] / row['onednn'][kind]:.2f}" for kind in ("forward", "gelu", "both")]
        rates = [f"{row['gflop'] / row[form]['forward']:.0f}" for form in FORMS]
        table.add_row(name, *rates, *gains)
    Console().print(table)
    print("An exponential: " + ", ".join(f"{name} {took:.2f} ns" for name, took in report["exponential_ns"].items()))
    print(f"A new number of rows: {report['mb_a_shape']:.2f} MB")


def measure(num_rows: int, width: int, out_width: int, rounds: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    x, upstream = (torch.randn(num_rows, size, generator=generator) for size in (width, out_width))
    weight, bias = torch.randn(out_width, width, generator=generator) / width**0.5, torch.randn(out_width)
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for name, form in FORMS.items():
        layer = partial(linear, implementation=form)
        leaves = [part.clone().requires_grad_() for part in (x, weight, bias)]
        runs[name, "forward"] = partial(without_gradient, layer, x, weight, bias)
        runs[name, "gelu"] = partial(without_gradient, partial(layer, activation="gelu"), x, weight, bias)
        runs[name, "both"] = partial(with_backward, layer, leaves, upstream)
    seconds: dict[str, dict[str, float]] = {name: {} for name in FORMS}
    for _ in range(rounds):
        for (name, kind), run in runs.items():
            seconds[name][kind] = min(timed(run)[0], seconds[name].get(kind, math.inf))
    torch.testing.assert_close(runs["onednn", "gelu"](), runs["torch", "gelu"](), rtol=1e-4, atol=1e-4)
    return {"gflop": 2 * num_rows * width * out_width / 1e9, **seconds}


def without_gradient(layer: Callable[..., Tensor], *parts: Tensor) -> Tensor:
    with torch.inference_mode():
        return layer(*parts)


def with_backward(layer: Callable[..., Tensor], leaves: list[Tensor], upstream: Tensor) -> object:
    return torch.autograd.grad(layer(*leaves), leaves, upstream)


def exponentials(rounds: int) -> dict[str, float]:
    """Return nanoseconds for a number, in place and in cache."""
    numbers = torch.randn(1_024, 266, generator=torch.Generator().manual_seed(0)) - 5
    seconds: dict[str, float] = {}
    for _ in range(rounds):
        for name in ("exp", "exp2"):
            parts = [numbers.clone() for _ in range(64)]
            took, _ = timed(partial(list, map(torch.Tensor.exp_ if name == "exp" else torch.Tensor.exp2_, parts)))
            seconds[name] = min(took / numbers.numel() / len(parts), seconds.get(name, math.inf))
    return {name: took * 1e9 for name, took in seconds.items()}


def memory_of_shapes() -> float:
    torch.set_num_threads(1)
    x, weight = torch.randn(1_024, 256), torch.randn(64, 256)  # what comes out is small beside the code
    for _ in range(2):
        onednn.product(x, weight)
    before = resident()
    for num_rows in range(1_024 - NEW_SHAPES, 1_024):
        onednn.product(x[:num_rows], weight)
    return (resident() - before) / NEW_SHAPES / 1e6


def resident() -> int:
    return read_bytes(Path("/proc/self/status").read_text(), "VmRSS")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
