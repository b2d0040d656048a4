"""Two processes take the steps that one would take, and a run may go on with another number of them."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.conftest import DEADLINE, command_of
from tests.training.tiny_run import free_port
from xtrimogene.config import PretrainConfig
from xtrimogene.training.run_checkpoints import checkpoints

Weights = dict[str, torch.Tensor]


def largest_difference(weights: Weights, others: Weights) -> float:
    assert weights.keys() == others.keys()
    return max(float((weights[name] - others[name]).abs().max()) for name in weights)


def assert_ends(run: subprocess.CompletedProcess[str]) -> None:
    assert run.returncode == 0, run.stderr[-2000:]


def assert_same_log(one: PretrainConfig, other: PretrainConfig, name: str, num_rows: int, rel: float) -> None:
    """The gradient's norm is among the numbers: Adam and clipping would hide a wrong scale from the weights."""
    logs = [Path(run.output, "log", f"{name}.csv").read_text().splitlines() for run in (one, other)]
    assert logs[0][0] == logs[1][0] and ("gradient_norm" in logs[0][0]) == (name == "metrics")
    assert len(logs[0]) == len(logs[1]) == num_rows + 1
    for row, same in zip(logs[0][1:], logs[1][1:], strict=True):
        numbers, others = ([float(value) for value in line.split(",")] for line in (row, same))
        assert numbers == pytest.approx(others, rel=rel)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_processes_equal_one(
    precision: str, config: PretrainConfig, run_alone: Callable, weights_of: Callable
) -> None:
    config = replace(config, precision=precision, validation_files=(config.files[1],), files=(config.files[0],))
    one = replace(config, output=config.output + "-1")
    assert_ends(run_alone(one))
    # Adam makes rounding larger; in bfloat16 a last bit of a weight that falls the other way is worth 1/256 of it
    exact = precision == "float32"
    for strategy in ("ddp", "fsdp"):
        two = replace(config, output=f"{config.output}-{strategy}")
        launched = ("--launched",) if exact and strategy == "ddp" else ()
        assert_ends(run_alone(two, "--devices", "2", "--strategy", strategy, *launched))
        if exact:
            assert largest_difference(weights_of(one), weights_of(two)) < 1e-4
        for name, num_rows in (("metrics", 6), ("validation", 2)):
            assert_same_log(one, two, name, num_rows, rel=1e-4 if exact else 0.02)


@pytest.mark.slow
def test_two_machines_equal_one(
    config: PretrainConfig, run_alone: Callable, weights_of: Callable, tmp_path: Path
) -> None:
    """Two machines of one process each, both this one, started as torchrun and as srun start them."""
    one = replace(config, output=config.output + "-1")
    assert_ends(run_alone(one))
    for launcher in (started_by_torchrun, started_by_slurm):
        two = replace(config, output=f"{config.output}-{launcher.__name__}")
        command, port = command_of(two, tmp_path, "--nodes", "2"), str(free_port())
        machines = [launcher(command, rank, port) for rank in ("0", "1")]
        try:
            ends = [machine.communicate(timeout=DEADLINE)[1][-2000:] for machine in machines]
        finally:
            for machine in machines:
                machine.kill()
        assert [machine.returncode for machine in machines] == [0, 0], ends
        assert largest_difference(weights_of(one), weights_of(two)) < 1e-4
        assert_same_log(one, two, "metrics", 6, rel=1e-4)


def started_by_torchrun(command: list[str], rank: str, port: str) -> subprocess.Popen[str]:
    address = ["--nnodes", "2", "--node-rank", rank, "--master-addr", "127.0.0.1", "--master-port", port]
    start = [sys.executable, "-m", "torch.distributed.run", *address, *command]
    return subprocess.Popen(start, stderr=subprocess.PIPE, text=True)


def started_by_slurm(command: list[str], rank: str, port: str) -> subprocess.Popen[str]:
    variables = {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NAME": "pretrain",
        "SLURM_NTASKS": "2",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NODEID": rank,
        "SLURM_PROCID": rank,
        "SLURM_LOCALID": "0",
        "SLURM_NODELIST": "127.0.0.1",
        "MASTER_PORT": port,
    }
    start = [sys.executable, *command]
    return subprocess.Popen(start, env=os.environ | variables, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_run_begun_on_two_devices_ends_on_one(
    config: PretrainConfig, run_alone: Callable, weights_of: Callable
) -> None:
    whole = replace(config, output=config.output + "-1")
    assert_ends(run_alone(whole))
    for strategy in ("ddp", "fsdp"):
        broken = replace(config, output=f"{config.output}-{strategy}")
        assert run_alone(broken, "--devices", "2", "--strategy", strategy, "--die-after", "7").returncode != 0
        assert [path.name for path in checkpoints(Path(broken.output, "checkpoints"))][0] == "step-00000006.ckpt"
        assert_ends(run_alone(broken))
        assert largest_difference(weights_of(whole), weights_of(broken)) < 1e-4


@pytest.mark.slow
def test_sharded_processes_with_unequal_passes_wait_for_each_other(
    config: PretrainConfig, run_alone: Callable, weights_of: Callable
) -> None:
    """Lanes of unequal tokens are cut into unequal numbers of passes, some of which decode no cell."""
    config = replace(
        config,
        batch_size=8,
        decoder_share=0.1,
        micro_batch_tokens=150,
        num_steps=6,
        model={"decoder": {"kind": "cross_attention"}},
    )
    one, two = replace(config, output=config.output + "-1"), replace(config, output=config.output + "-2")
    assert_ends(run_alone(one))
    assert_ends(run_alone(two, "--devices", "2", "--strategy", "fsdp"))
    assert_same_log(one, two, "metrics", 3, rel=1e-4)
    weights, others = (
        # softmax does not depend on it, so its gradient is rounding alone, which Adam makes as large as any
        {name: weight for name, weight in weights_of(run).items() if not name.endswith("attention.key.bias")}
        for run in (one, two)
    )
    assert largest_difference(weights, others) < 1e-3
