"""Two processes take the steps that one would take, and a run may go on with another number of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from xtrimogene.config import PretrainConfig
from xtrimogene.training.run_checkpoints import checkpoints

Weights = dict[str, torch.Tensor]


def largest_difference(weights: Weights, others: Weights) -> float:
    assert weights.keys() == others.keys()
    return max(float((weights[name] - others[name]).abs().max()) for name in weights)


@pytest.mark.slow
def test_two_processes_equal_one(config: PretrainConfig, run_alone: Callable, weights_of: Callable) -> None:
    one, two = replace(config, output=config.output + "-1"), replace(config, output=config.output + "-2")
    for run, options in ((one, ()), (two, ("--devices", "2"))):
        ended = run_alone(run, *options)
        assert ended.returncode == 0, ended.stderr[-2000:]
    assert largest_difference(weights_of(one), weights_of(two)) < 1e-5
    logs = [Path(run.output, "log", "metrics.csv").read_text().splitlines() for run in (one, two)]
    assert len(logs[0]) == len(logs[1]) == 7
    for row, other in zip(logs[0][1:], logs[1][1:], strict=True):
        assert [float(x) for x in row.split(",")] == pytest.approx([float(x) for x in other.split(",")], rel=1e-4)


@pytest.mark.slow
def test_a_run_begun_on_two_devices_ends_on_one(
    config: PretrainConfig, run_alone: Callable, weights_of: Callable
) -> None:
    whole, broken = replace(config, output=config.output + "-1"), replace(config, output=config.output + "-2")
    assert run_alone(whole).returncode == 0
    assert run_alone(broken, "--devices", "2", "--die-after", "7").returncode != 0
    assert [path.name for path in checkpoints(Path(broken.output, "checkpoints"))][0] == "step-00000006.ckpt"
    ended = run_alone(broken)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert largest_difference(weights_of(whole), weights_of(broken)) < 1e-5
