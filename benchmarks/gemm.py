"""What this core's matrix products reach: the ceilings that the other CPU benchmarks are held against.

`torch.mm`, which calls MKL on an x86 processor, and oneDNN's, which our linear layers call there. MKL takes AVX2 on
AMD's processors even where they have AVX-512.
"""

import math
import time
from collections.abc import Callable

import torch

from xtrimogene_kernels import onednn

ROWS = 1_500


class Gemm:
    """The four matrix products of a layer at 1,500 rows; `measure` stands between the rounds of a benchmark."""

    def __init__(self, dim: int) -> None:
        shapes = [(dim, 3 * dim), (dim, dim), (dim, 4 * dim), (4 * dim, dim)]
        self.operands = [(torch.randn(ROWS, k), torch.randn(n, k)) for k, n in shapes]
        self.outputs = [torch.empty(ROWS, n) for _, n in shapes]
        self.flops = 24 * ROWS * dim**2
        self.seconds: dict[str, float] = {}
        self.measure()  # memory is cleared at its first use
        self.seconds.clear()

    def measure(self) -> None:
        probes: dict[str, Callable[[], None]] = {"gemm": self._torch_mm}
        if onednn.takes(*self.operands[0]):
            probes["onednn"] = self._onednn
        for name, probe in probes.items():
            took = min(timed(probe)[0] for _ in range(3))
            self.seconds[name] = min(took, self.seconds.get(name, math.inf))

    def report(self) -> dict[str, float]:
        return {f"{name}_gflops": self.flops / took / 1e9 for name, took in self.seconds.items()}

    def shares(self, flops: float, seconds: float) -> dict[str, float]:
        """Return which part of these speeds so many operations in so many seconds are."""
        return {f"of_{name}": flops / seconds / (self.flops / took) for name, took in self.seconds.items()}

    def _torch_mm(self) -> None:
        for (rows, weight), output in zip(self.operands, self.outputs, strict=True):
            torch.mm(rows, weight.T, out=output)

    def _onednn(self) -> None:
        for rows, weight in self.operands:
            onednn.product(rows, weight)


SHARES = {"of_gemm": "of mm", "of_onednn": "of oneDNN"}  # the columns of a table


def show_shares(row: dict[str, float]) -> list[str]:
    return [f"{row[name]:.2f}" if name in row else "-" for name in SHARES]


def timed(run: Callable[[], object]) -> tuple[float, object]:
    """Return the process' CPU seconds, and what came out."""
    start = time.process_time()
    result = run()
    return time.process_time() - start, result
