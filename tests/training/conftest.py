"""Runs in processes of their own."""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from tests.training import tiny_run
from xtrimogene.config import (
    ModelConfig,
    OptimizerConfig,
    PretrainConfig,
    ReadDepthConfig,
    SamplingConfig,
    to_dict,
)
from xtrimogene.data.gene_vocabulary import GeneVocabulary

DEADLINE = 120  # seconds: a run that hangs fails here
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])


@pytest.fixture
def config(tmp_path: Path) -> PretrainConfig:
    """A run of twelve steps over two files, of a tiny model with all losses."""
    counts = np.random.default_rng(0).poisson(0.8, (20, 250)).astype(np.float32)
    var = pd.DataFrame(index=list(tiny_run.GENES.symbols))
    for name, rows in (("a", slice(0, 12)), ("b", slice(12, 20))):
        anndata.AnnData(sparse.csr_matrix(counts[rows]), var=var).write_h5ad(tmp_path / f"{name}.h5ad")
    return PretrainConfig(
        files=(str(tmp_path / "a.h5ad"), str(tmp_path / "b.h5ad")),
        output=str(tmp_path / "run"),
        preset="tiny",
        num_steps=12,
        batch_size=4,  # five steps an epoch: the run crosses epochs
        sampling=SamplingConfig(num_lanes=2, block_size=3, buffer_size=12),
        min_genes=50,
        latent_weight=0.5,
        latent_kl_weight=1e-3,
        start="spectral",
        redraw_every=5,
        checkpoint_every=3,
        log_every=2,
        read_depth=ReadDepthConfig(gene_spread=0.5),
        optimizer=OptimizerConfig(peak_lr=1e-2, warmup_steps=2),
    )


Run = Callable[..., subprocess.CompletedProcess[str]]


def command_of(config: PretrainConfig, folder: Path, *options: str) -> list[str]:
    """Return the arguments of python for a run in a process of its own."""
    path = folder / f"{Path(config.output).name}.json"
    path.write_text(json.dumps(to_dict(config)))
    return [tiny_run.__file__, str(path), *options]


@pytest.fixture
def run_alone(tmp_path: Path) -> Run:
    """Run a config in a process of its own, or in as many as `--devices` says.

    It is forked from one that has the imports, which take longer than the run; with `--launched` it is a new one.
    """

    def run(config: PretrainConfig, *options: str) -> subprocess.CompletedProcess[str]:
        command = command_of(config, tmp_path, *options)
        if "--launched" in options:
            command = [sys.executable, *command]
            return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
        said = [tmp_path / f"{Path(config.output).name}.{name}" for name in ("stdout", "stderr")]
        process = FORKS.Process(target=run_forked, args=(command[1:], *said))
        process.start()
        process.join(DEADLINE)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(said[1].read_text()[-2000:])
        return subprocess.CompletedProcess(command, process.exitcode, *(path.read_text() for path in said))

    return run


def run_forked(arguments: list[str], stdout: Path, stderr: Path) -> None:
    for path, stream in ((stdout, 1), (stderr, 2)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream)
    multiprocessing.set_start_method(None, force=True)  # the platform's own, as in any process that was not forked
    tiny_run.main(arguments)


@pytest.fixture
def weights_of() -> Callable[[PretrainConfig], dict[str, torch.Tensor]]:
    """The weights that a run alone ended with."""
    return lambda config: torch.load(Path(config.output) / "weights.pt", weights_only=True)


@pytest.fixture
def tiny_genes() -> GeneVocabulary:
    return tiny_run.GENES


@pytest.fixture
def tiny_config() -> Callable[[int], ModelConfig]:
    return tiny_run.tiny
