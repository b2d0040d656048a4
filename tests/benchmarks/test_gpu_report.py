import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_report.py"
PARTS = ["ceilings", "parity", "linear_attention", "attention", "embed", "gene_embed", "train_step", "host"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_every_part_runs_with_tiny_shapes():
    done = run(*PARTS, "largest_batch", "--rehearse")
    assert done.returncode == 0, done.stderr
    assert all(f"\n{part}, " in done.stdout for part in PARTS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_cuda_it_says_so_and_measures_nothing(tmp_path):
    done = run("--out", str(tmp_path / "report.json"))
    assert done.returncode == 0 and "No CUDA device here: nothing is measured." in done.stdout
    assert not list(tmp_path.iterdir())
