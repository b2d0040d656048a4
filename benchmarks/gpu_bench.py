"""A device, the shapes to try on it, and how its time and memory are measured: for benchmarks/gpu_report.py."""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from cells import make_counts
from scipy import sparse
from torch import Tensor

from xtrimogene.config import DecoderKind, ModelConfig
from xtrimogene.model import attention
from xtrimogene.model.attention import LinearAttention
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene_kernels.linear_attention import linear_attention


@dataclass(frozen=True)
class Bench:
    """A device and the shapes to try on it."""

    device: torch.device
    presets: dict[str, ModelConfig]
    batch_size: int = 32
    cells: int = 256
    host_cells: int = 4096
    median_length: int = 1500
    gemm_size: int = 8192
    largest: int = 2048  # batch that is tried
    deadline: float = math.inf  # of time.monotonic()
    repeats: int = 20

    @property
    def num_genes(self) -> int:
        return self.presets["100M"].num_genes

    @property
    def small(self) -> bool:
        return self.num_genes < 1000

    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def counts(self, num_cells: int, seed: int = 0) -> sparse.csr_matrix:
        return make_counts(num_cells, seed, self.num_genes, self.median_length)

    def milliseconds(self, run: Callable[[], object], repeats: int | None = None, warm_up: int = 3) -> float:
        """Return the median of some runs, after a few that do not count."""
        for _ in range(warm_up):
            run()
        times = []
        for _ in range(repeats or self.repeats):
            with self.stopwatch(times):
                run()
        return statistics.median(times)

    @contextmanager
    def stopwatch(self, times: list[float]) -> Iterator[None]:
        if self.device.type != "cuda":
            start = time.perf_counter()
            yield
            times.append(1e3 * (time.perf_counter() - start))
            return
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        yield
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))

    def peak_gib(self, run: Callable[[], object]) -> float:
        """Return the most memory a run held, what was there before included."""
        if self.device.type != "cuda":
            run()
            return float("nan")
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**30

    def random(self, *shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.randn(shape, device=self.device, dtype=dtype)

    def network(self, preset: str, decoder: DecoderKind = "performer") -> XTrimoGene:
        """Return random weights on the device, for evaluation."""
        config = self.presets[preset]
        config = replace(config, decoder=replace(config.decoder, kind=decoder))
        network = XTrimoGene(config, seed=None).to(self.device)  # drawn there: 100M weights take the host seconds
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
        for layer in network.modules():
            if isinstance(layer, LinearAttention):
                torch.nn.init.normal_(layer.projection)
        return network.eval().requires_grad_(False)


@contextmanager
def favor(implementation: str) -> Iterator[None]:
    """Have decoders use this form of linear attention."""
    attention.linear_attention = partial(linear_attention, implementation=implementation)
    try:
        yield
    finally:
        attention.linear_attention = linear_attention
