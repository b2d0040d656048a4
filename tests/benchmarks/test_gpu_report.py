import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEventAvg

from xtrimogene.model.xtrimogene import XTrimoGene

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_report.py"
ABSENT = "anndata beartype jaxtyping lightning matplotlib rich safetensors scanpy sklearn typer umap zarr"
BARE = f"""
import runpy, sys
sys.modules |= dict.fromkeys({ABSENT!r}.split())  # importing any of them fails
sys.path.insert(0, {str(SCRIPT.parent)!r})
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
PARTS = ["ceilings", "parity", "linear_attention", "attention", "embed", "gene_embed", "train_step", "host"]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)


@pytest.fixture
def gpu_report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("gpu_report")


@pytest.mark.slow
def test_every_part_runs_with_tiny_shapes_and_little_installed():
    done = run("-c", BARE, *PARTS, "largest_batch", "--rehearse")
    assert done.returncode == 0, done.stderr
    assert all(f"\n{part}, " in done.stdout for part in PARTS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_cuda_it_says_so_and_measures_nothing(tmp_path):
    done = run(SCRIPT, "--out", str(tmp_path / "report.json"))
    assert done.returncode == 0 and "No CUDA device here: nothing is measured." in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without CUDA")
def test_the_triton_kernels_are_compared(gpu_report: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "xtrimogene_kernels.linear_attention"
    triton = pytest.importorskip(f"{module}.triton", reason="needs triton", exc_type=ImportError)
    monkeypatch.setattr(f"{module}._triton", lambda key: triton.linear_attention)  # which asks for CUDA
    monkeypatch.setattr(gpu_report, "linear_name", lambda bench, name: name)
    monkeypatch.setattr("gpu_parity.LINEAR_SHAPES", [(16, 24)])
    monkeypatch.setattr("gpu_parity.HALVES", [torch.float16])  # bfloat16 is garbage in the interpreter
    found = gpu_report.triton_parity(gpu_report.rehearsal())
    assert len(found) == 3 and all(row["passes"] for row in found.values()), found


def test_a_kernel_is_counted_once_and_not_with_its_operator_too(gpu_report: ModuleType) -> None:
    operator, kernel = FunctionEventAvg(), FunctionEventAvg()
    operator.self_device_time_total = kernel.self_device_time_total = 3000
    kernel.device_type = DeviceType.CUDA
    assert gpu_report.kernel_milliseconds([operator, kernel]) == 3.0


def test_a_network_whose_numbers_are_wrong_is_named(gpu_report: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose_the_genes(network: XTrimoGene, *_: object) -> XTrimoGene:
        torch.nn.init.zeros_(network.gene_embedding.table)
        return network

    monkeypatch.setattr("gpu_parity.lower_precision", lose_the_genes)
    bench = gpu_report.rehearsal()
    found = gpu_report.network_parity(bench.device, bench.presets["10M"], bench.counts(4))
    assert list(gpu_report.faults({"network": found})) == ["network / bfloat16"]
