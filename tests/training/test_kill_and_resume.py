"""A run that SIGKILL ends again and again, also in the middle of a checkpoint, ends with the weights of a quiet run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xtrimogene.config import PretrainConfig


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "num_kills"), [(0, 20), (2, 6)])
def test_kills_change_nothing(
    workers: int, num_kills: int, config: PretrainConfig, run_alone: Callable, weights_of: Callable
) -> None:
    config = replace(config, num_steps=45)
    quiet, killed = replace(config, output=config.output + "-quiet"), replace(config, output=config.output + "-killed")
    steps = np.random.default_rng(workers).choice(np.arange(1, 45), num_kills, replace=False)
    in_write = [step for step in steps if step % config.checkpoint_every == 0]
    after = [step for step in steps if step not in in_write]
    assert len(in_write) >= 2 and len(after) >= 2

    assert run_alone(quiet).returncode == 0
    kills = ("--kill-after", *map(str, after), "--kill-in-write", *map(str, in_write))
    ended = run_alone(killed, "--workers", str(workers), *kills)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.split()[0] == str(num_kills)
    expected = weights_of(quiet)
    for name, weight in weights_of(killed).items():
        assert torch.equal(weight, expected[name]), name
    assert Path(killed.output, "log", "metrics.csv").read_text() == Path(quiet.output, "log", "metrics.csv").read_text()
    left = [path.name for path in Path(killed.output, "checkpoints").iterdir()]
    assert sorted(left) == ["step-00000042.ckpt", "step-00000045.ckpt"], "no half-written file stays"
