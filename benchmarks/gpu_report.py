"""What does one GPU do? Correctness against float64, then times and memory, beside what it can do at best.

PYTHONPATH=.:kernels python3 benchmarks/gpu_report.py --out report.json      # all parts; meant to end in nine minutes
PYTHONPATH=.:kernels python3 benchmarks/gpu_report.py parity attention       # some of them
python benchmarks/gpu_report.py --rehearse       # every part, with tiny shapes and wherever: the script itself is tried

Nothing has to be installed but PyTorch, Triton, NumPy, SciPy, h5py and pandas; no data is read.
Without CUDA it says so and measures nothing. Times are medians between device events, over random numbers, after a
warm-up; operations are the closed form of model/flops.py, real tokens only. Parts that use Triton come last, each part
is written as it ends, and one that fails, or finds a wrong number, is named at the end and in the exit status.
"""

import argparse
import json
import platform
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import bare_machine  # noqa: F401  stands in for what is not installed, so it comes first
import numpy as np
import torch
from cells import inference_batches, training_batch
from gpu_bench import Bench, favor
from gpu_parity import linear_attention_parity, network_parity, varlen_attention_parity
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEventAvg

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import ActivationCheckpointing, DecoderKind, OptimizerConfig
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.packed_cells import PackedCells
from xtrimogene.inference import Inference
from xtrimogene.model.checkpointing import set_activation_checkpointing
from xtrimogene.model.flops import cell_embedding_flops, gene_embedding_flops
from xtrimogene.model.losses import masked_squared_error
from xtrimogene.model.lower_precision import lower_precision
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.presets import PRESETS, model_config
from xtrimogene.training.optimizer import build_optimizer
from xtrimogene_kernels.linear_attention import linear_attention
from xtrimogene_kernels.segments import Segments
from xtrimogene_kernels.varlen_attention import varlen_attention

RESULTS = Path(__file__).parent / "results"
TARGETS = {
    "cells/s, 12x768 bfloat16": 950,
    "FAVOR+ forward, ms a layer": 1.7,
    "FAVOR+ backward, ms a layer": 4.0,
    "training step of 100M at batch 32, ms": 300,
    "the same, GiB": 80,
    "gene embedding of 100M, cells/s": 300,
}
Result = dict[str, Any]


def ceilings(bench: Bench) -> Result:
    result: Result = {f"{str(dtype)[6:]} TFLOP/s": product(bench, dtype) for dtype in (torch.bfloat16, torch.float32)}
    source = bench.random(bench.gemm_size**2 * 8)
    target = torch.empty_like(source)
    result["copy TB/s"] = 2 * source.nbytes / bench.milliseconds(lambda: target.copy_(source)) / 1e9
    return result


def product(bench: Bench, dtype: torch.dtype) -> float:
    """Return TFLOP/s of a square matrix product."""
    size = bench.gemm_size
    a, b = bench.random(size, size, dtype=dtype), bench.random(size, size, dtype=dtype)
    return 2 * size**3 / bench.milliseconds(partial(torch.mm, a, b)) / 1e9


def parity(bench: Bench) -> Result:
    return {
        "varlen_attention": varlen_attention_parity(bench.device, small=bench.small),
        "linear_attention": linear_attention_parity(bench.device, "streamed", small=bench.small),
        "network": network_parity(bench.device, bench.presets["10M"], bench.counts(4)),
    }


def triton_parity(bench: Bench) -> Result:
    return linear_attention_parity(bench.device, linear_name(bench, "triton"), small=bench.small)


def linear(bench: Bench) -> Result:
    """FAVOR+ of one decoder layer: forward and backward, milliseconds and GiB above the inputs."""
    decoder = bench.presets["100M"].decoder
    rows, heads, width = bench.num_genes + 2, decoder.num_heads, decoder.dim // decoder.num_heads
    segments = Segments.from_lengths([rows] * bench.batch_size, bench.device)
    result: Result = {}
    for features in (decoder.num_features, 266):
        for name, dtype in LINEAR.items():
            shape = (rows * bench.batch_size, heads, width)
            leaves = [bench.random(*shape, dtype=dtype).requires_grad_() for _ in range(3)]
            projection, weight = bench.random(features, width, dtype=dtype), bench.random(*shape, dtype=dtype)
            form = partial(
                linear_attention, *leaves, projection, segments, segments, implementation=linear_name(bench, name)
            )
            name = f"{name} {str(dtype)[6:]}, {features} features"
            try:
                result[name] = forward_and_backward(bench, form, leaves, weight)
            except torch.OutOfMemoryError:
                result[name] = "out of memory"
    return result


def forward_and_backward(bench: Bench, form: Callable[[], Tensor], leaves: list[Tensor], weight: Tensor) -> Result:
    def both() -> None:
        torch.autograd.grad(form(), leaves, weight, allow_unused=True)

    before = torch.cuda.memory_allocated() / 2**30 if bench.device.type == "cuda" else 0.0
    with torch.no_grad():
        forward = bench.milliseconds(form, 5)
    return {
        "forward_ms": forward,
        "backward_ms": bench.milliseconds(both, 5) - forward,
        "gib": bench.peak_gib(both) - before,
    }


LINEAR = {"reference": torch.float32, "streamed": torch.bfloat16, "triton": torch.bfloat16}


def linear_name(bench: Bench, name: str) -> str:
    """On a CPU, where scripts are only rehearsed, Triton has no kernels."""
    return "streamed" if name == "triton" and bench.device.type != "cuda" else name


def softmax(bench: Bench) -> Result:
    """Attention of one encoder layer over cells of real lengths; TFLOP/s of the real tokens."""
    encoder = bench.presets["100M"].encoder
    lengths = (np.diff(bench.counts(bench.batch_size).indptr) + 2).tolist()
    segments = Segments.from_lengths(lengths, bench.device)
    shape = (segments.num_rows, encoder.num_heads, encoder.dim // encoder.num_heads)
    leaves = [bench.random(*shape).requires_grad_() for _ in range(3)]
    weight = bench.random(*shape)
    flops = sum(4 * length**2 * encoder.dim for length in lengths)
    result: Result = {}
    with torch.no_grad():
        forward = bench.milliseconds(padded_attention(*leaves, lengths))
    result["padded, attention alone"] = {"forward_ms": forward, "forward TFLOP/s": flops / forward / 1e9}
    for name in ("sdpa", "torch_varlen", "flash_attn"):
        form = partial(varlen_attention, *leaves, segments, segments, implementation=name)
        try:
            forward = bench.milliseconds(torch.no_grad()(form))
            both = bench.milliseconds(lambda form=form: torch.autograd.grad(form(), leaves, weight))
        except (ImportError, ValueError) as error:
            result[name] = str(error)
            continue
        result[name] = {"forward_ms": forward, "both_ms": both, "forward TFLOP/s": flops / forward / 1e9}
    return result


def padded_attention(query: Tensor, key: Tensor, value: Tensor, lengths: list[int]) -> Callable[[], Tensor]:
    """Return the attention alone: padding and its mask are made beforehand."""
    rows = [nn.utils.rnn.pad_sequence(list(x.split(lengths)), batch_first=True) for x in (query, key, value)]
    kept = torch.arange(max(lengths), device=query.device) < torch.tensor(lengths, device=query.device)[:, None]
    q, k, v = (x.transpose(1, 2) for x in rows)
    mask = kept[:, None, None]
    return lambda: nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def embed(bench: Bench) -> Result:
    """Cell embedding of packed batches, as `Inference` does it: cells a second, and the share of a bfloat16 product."""
    result: Result = {}
    peak = product(bench, torch.bfloat16)
    for preset in ("100M", "10M"):
        exact = bench.network(preset)
        batches = inference_batches(exact, bench.counts(bench.cells), bench.device)
        flops = sum(cell_embedding_flops(exact.config, n, "all") for b in batches for n in b.segments.lengths)
        for precision in ("bfloat16", "float32"):
            network = lower_precision(exact, precision, bench.device)

            def run(network: XTrimoGene = network, batches: list[PackedCells] = batches) -> None:
                with torch.inference_mode():
                    for batch in batches:
                        network.embed_cells(batch, "all")

            took = bench.milliseconds(run, 5)
            rate = flops / took / 1e9
            result[f"{preset} {precision}"] = {
                "cells/s": 1e3 * bench.cells / took,
                "TFLOP/s": rate,
                "of bfloat16": rate / peak,
            }
    return result


def gene_embed(bench: Bench) -> Result:
    """Every gene's context embedding, 100M in bfloat16: cells a second."""
    result: Result = {}
    counts = bench.counts(13)
    for kind, form in (("cross_attention", "auto"), ("performer", "streamed"), ("performer", "triton")):
        network = bench.network("100M", kind).to(torch.bfloat16)
        (batch,) = inference_batches(network, counts, bench.device)
        asked = torch.arange(bench.num_genes, device=bench.device).repeat(batch.num_cells)
        segments = Segments.from_lengths([bench.num_genes] * batch.num_cells, bench.device)
        blank = network.blank_genes()

        def run(
            network: XTrimoGene = network, batch: PackedCells = batch, given: Any = (asked, segments, None, blank)
        ) -> None:
            with torch.inference_mode():
                network.decode(network.encode(batch), batch, *given)

        with favor(linear_name(bench, form)):
            took = bench.milliseconds(run, 5)
        flops = sum(gene_embedding_flops(network.config, length, blank=True) for length in batch.segments.lengths)
        result[f"{kind}, {form}"] = {"cells/s": 1e3 * batch.num_cells / took, "TFLOP/s": flops / took / 1e9}
    return result


def pieces(bench: Bench) -> Result:
    """What a training step of 100M with the paper's decoder is made of, at one batch, in bfloat16."""
    network = bench.network("100M").to(torch.bfloat16).requires_grad_(True)
    batch = training_batch(bench.counts(bench.batch_size)).to(bench.device)
    visible, hidden = batch.cells.visible.segments, batch.cells.hidden
    positions = Segments.from_lengths([bench.num_genes + 2] * bench.batch_size, bench.device)
    at = hidden.segments.segment_of_row() * (bench.num_genes + 2) + hidden.gene_ids
    dims = network.config.encoder.dim, network.config.decoder.dim
    seen, every = (bench.random(part.num_rows, dim) for part, dim in zip((visible, positions), dims, strict=True))
    block = network.decoder.blocks[0]
    attention = block.attention

    def linears() -> Tensor:
        read = attention.query(every) + attention.key(every) + attention.value(every)
        return block.contract(block.expand(attention.out(read)))

    parts: dict[str, tuple[nn.Module, Callable[[], Tensor]]] = {
        "encoder": (network.encoder, partial(network.encoder, seen, visible)),
        "decoder": (network.decoder, partial(network.decoder, every, positions, at, hidden.segments)),
        "linears of a decoder layer": (block, linears),
    }
    result: Result = {}
    with favor(linear_name(bench, "triton")):
        for name, (module, form) in parts.items():
            try:
                weight = torch.ones_like(torch.no_grad()(form)())
                result[name] = forward_and_backward(bench, form, list(module.parameters()), weight)
            except torch.OutOfMemoryError:
                result[name] = "out of memory"
    return result


def train_step(bench: Bench) -> Result:
    """A whole step of 100M at one batch: forward, backward, AdamW; autocast to bfloat16."""
    result: Result = {}
    tries: list[tuple[DecoderKind, str, ActivationCheckpointing]] = [
        ("cross_attention", "auto", "none"),
        ("performer", "streamed", "feed_forward"),
        ("performer", "triton", "feed_forward"),
        ("performer", "triton", "none"),
        ("performer", "triton", "layer"),
    ]
    for kind, form, mode in tries:
        if bench.late():
            break
        with favor(linear_name(bench, form)):
            result[f"{kind}, {form}, checkpointing {mode}"] = step_of(bench, kind, mode, bench.batch_size)
    return result


def largest_batch(bench: Bench) -> Result:
    """100M, parts computed twice: the batch is doubled until memory ends, then the gap is halved."""
    result: Result = {}
    tries: list[tuple[DecoderKind, str, ActivationCheckpointing]] = [
        ("cross_attention", "auto", "feed_forward"),
        ("performer", "triton", "feed_forward"),
        ("performer", "triton", "layer"),
    ]
    for kind, form, mode in tries:
        fits, too_large = 0, None
        with favor(linear_name(bench, form)):
            while (too_large is None or too_large - fits > fits // 8) and not bench.late():
                size = (fits + too_large) // 2 if too_large else max(bench.batch_size, 2 * fits)
                if size > bench.largest or "ms" not in step_of(bench, kind, mode, size, repeats=1):
                    too_large = size
                else:
                    fits = size
        result[f"{kind}, {form}, checkpointing {mode}"] = {"fits": fits, "does not": too_large}
    return result


def step_of(
    bench: Bench, kind: DecoderKind, mode: ActivationCheckpointing, batch_size: int, repeats: int = 5
) -> Result:
    network = bench.network("100M", kind).train().requires_grad_(True)
    set_activation_checkpointing(network, mode)
    optimizer = build_optimizer(network, OptimizerConfig())
    batch = training_batch(bench.counts(batch_size)).to(bench.device)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(bench.device.type, torch.bfloat16):
            predicted = network(batch.cells)
        (masked_squared_error(predicted.float(), batch.cells.targets) / batch.num_targets).backward()
        optimizer.step()

    try:
        took, gib = bench.milliseconds(run, repeats, warm_up=min(repeats, 3)), bench.peak_gib(run)
    except torch.OutOfMemoryError:
        return {"out of memory at batch": batch_size}
    finally:
        del network, optimizer, batch
        torch.cuda.empty_cache() if bench.device.type == "cuda" else None
    return {"batch": batch_size, "ms": took, "gib": gib, "cells/s": 1e3 * batch_size / took}


def host(bench: Bench) -> Result:
    """Does the host keep the GPU busy? Embedding from counts, 10M: cells a second, and the share its kernels run."""
    network, counts = bench.network("10M"), bench.counts(bench.host_cells)
    genes = GeneVocabulary.from_symbols([f"GENE{i}" for i in range(bench.num_genes)])
    result: Result = {}
    for precision in ("float32", "bfloat16"):
        model = Inference(PretrainedModel(network, genes, {}, name="10M"), device=bench.device, precision=precision)
        run = partial(model.cell_embeddings, counts, pool="all")
        took = bench.milliseconds(run, 3)
        with torch.profiler.profile() as profile:
            run()
        busy = kernel_milliseconds(profile.key_averages()) / took
        result[precision] = {"cells/s": 1e3 * bench.host_cells / took, "busy": busy}
    return result


def kernel_milliseconds(events: Iterable[FunctionEventAvg]) -> float:
    """Return the time of a profile's kernels: an operator on the host has the time of those it began, too."""
    return sum(event.self_device_time_total for event in events if event.device_type == DeviceType.CUDA) / 1e3


def compiled(bench: Bench) -> Result:
    """Residual, norm and feed-forward part of a decoder layer, over all positions of a batch: eager and compiled."""
    block = bench.network("100M").decoder.blocks[0].to(torch.bfloat16)
    x = bench.random((bench.num_genes + 2) * bench.batch_size, bench.presets["100M"].decoder.dim)

    def part(x: Tensor) -> Tensor:
        return x + block._feed_forward(x)

    result: Result = {}
    with torch.no_grad():
        for name, form in (("eager", part), ("compiled", torch.compile(part, dynamic=True))):
            result[name] = {"forward_ms": bench.milliseconds(partial(form, x), 10)}
    return result


PARTS: dict[str, Callable[[Bench], Result]] = {
    "ceilings": ceilings,
    "parity": parity,
    "attention": softmax,
    "embed": embed,
    "host": host,
    "triton_parity": triton_parity,
    "linear_attention": linear,
    "gene_embed": gene_embed,
    "pieces": pieces,
    "train_step": train_step,
    "largest_batch": largest_batch,
    "compile": compiled,
}


def main() -> None:
    options = read_options()
    if not torch.cuda.is_available() and not options.rehearse:
        print("No CUDA device here: nothing is measured. --rehearse tries the script with tiny shapes.")
        return
    torch.manual_seed(0)
    bench = replace(rehearsal() if options.rehearse else full_size(), deadline=time.monotonic() + 60 * options.minutes)
    out = options.out or RESULTS / f"gpu_report_{machine(bench)['device'].replace(' ', '_').lower()}.json"
    report: Result = {"machine": machine(bench), "targets": TARGETS}
    for name in options.parts or PARTS:
        if bench.late():
            report[name] = f"not begun: {options.minutes:g} minutes were over"
            print(f"\n{name}: {report[name]}", flush=True)
            continue
        start = time.monotonic()
        try:
            report[name] = PARTS[name](bench)
        except Exception as error:  # noqa: BLE001  a lent GPU comes seldom: the other parts still count
            traceback.print_exc()
            report[name] = {"failed": f"{type(error).__name__}: {error}"}
        print(f"\n{name}, {time.monotonic() - start:.0f} s", flush=True)
        show(report[name])
        if not options.rehearse:
            unfinished = out.with_suffix(".part")
            unfinished.write_text(json.dumps(report, indent=1) + "\n")
            unfinished.replace(out)
    wrong = list(faults(report))
    if wrong:
        raise SystemExit("Failed or wrong: " + "; ".join(wrong))


def faults(report: Result, where: str = "") -> Iterator[str]:
    """Name what failed and what did not pass."""
    for name, value in report.items():
        if isinstance(value, dict):
            if "failed" in value or value.get("passes") is False:
                yield f"{where}{name}"
            yield from faults(value, f"{where}{name} / ")


def full_size() -> Bench:
    return Bench(torch.device("cuda"), {name: model_config(name, 19_264) for name in PRESETS})


def rehearsal() -> Bench:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    changes = {"encoder": {"dim": 32, "num_layers": 1, "num_heads": 2}}
    changes |= {"decoder": {"dim": 32, "num_layers": 2, "num_heads": 2, "num_features": 24}, "num_bins": 8}
    presets = {name: model_config(name, 300, changes) for name in ("10M", "100M")}
    sizes = {"batch_size": 4, "cells": 6, "host_cells": 8, "median_length": 40, "gemm_size": 64, "largest": 8}
    return Bench(device, presets, repeats=1, **sizes)


def machine(bench: Bench) -> dict[str, str]:
    try:
        from triton import __version__ as triton
    except ImportError:
        triton = "none"
    device = torch.cuda.get_device_name() if bench.device.type == "cuda" else platform.processor() or "cpu"
    return {"device": device, "torch": torch.__version__, "triton": triton, "python": platform.python_version()}


def show(result: Result, indent: str = "  ") -> None:
    for name, value in result.items():
        if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
            print(f"{indent}{name}")
            show(value, indent + "  ")
        elif isinstance(value, dict):
            figures = ", ".join(f"{key} {number(inner)}" for key, inner in value.items())
            print(f"{indent}{name}: {figures}")
        else:
            print(f"{indent}{name}: {number(value)}")


def number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes, nothing written")
    parser.add_argument("--minutes", type=float, default=7.5, help="nothing begins later")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu_report_DEVICE.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
