"""One pre-training run, from a config to a checkpoint folder."""

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only

from xtrimogene.checkpoint import PretrainedModel, save
from xtrimogene.config import PretrainConfig, from_dict, read_toml, to_dict
from xtrimogene.data.cell_store import CellStore, hash_store, join, open_stores
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.sampler import Sampler, lanes_of
from xtrimogene.errors import ConfigError
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.presets import model_config
from xtrimogene.training.depth_direction import find_depth_direction
from xtrimogene.training.fit import Strategy, fit
from xtrimogene.training.lightning_module import Pretraining
from xtrimogene.training.micro_batch import MicroBatch
from xtrimogene.training.run_folder import check_unclaimed
from xtrimogene.training.sharding import whole_network
from xtrimogene.training.validation import validation_batches


def read_config(path: str | os.PathLike[str]) -> PretrainConfig:
    """Read a run's TOML; file names in it are relative to the TOML's folder.

    Raises
    ------
    ConfigError
        No such file, no TOML, an unknown setting or a wrong value.
    """
    file = Path(path)
    values = read_toml(file, ("files", "output"))
    config = from_dict(PretrainConfig, values, file.name)

    folder = file.parent.resolve()  # the same run, from wherever it is called

    def beside(entry: str) -> str:
        return str(folder / entry)

    return replace(
        config,
        files=tuple(map(beside, config.files)),
        joined_by={beside(entry): key for entry, key in config.joined_by.items()},
        weights={beside(entry): weight for entry, weight in config.weights.items()},
        validation_files=tuple(map(beside, config.validation_files)),
        output=beside(config.output),
    )


def pretrain(
    config: PretrainConfig,
    *,
    num_devices: int = 1,
    num_nodes: int = 1,
    num_workers: int = 0,
    strategy: Strategy = "ddp",
) -> PretrainedModel:
    """Train, resuming where an earlier run of the same config stopped, and write ``output/model``.

    ``output/log`` holds ``metrics.csv`` and, with validation files, ``validation.csv``; ``output/checkpoints`` the last
    two checkpoints of the run, of which a damaged one is passed over. A run may go on with other devices and workers
    than it began with: it reads the same cells at each step.

    Parameters
    ----------
    num_devices
        GPUs of this machine, or processes where there is none. With more than one, the program that calls is started
        once for each; torchrun and SLURM are heeded.
    num_nodes
        Machines.
    num_workers
        Processes beside each device's that read, thin and mask cells.
    strategy
        Of several devices: "ddp", each holds the whole model; "fsdp", each holds a share (FSDP2), for models that do
        not fit otherwise.

    Raises
    ------
    ConfigError
        ``output`` holds a run of another config, or of other cells; the devices cannot share the lanes; the loss is no
        number any more.
    CheckpointError
        All of the run's checkpoints are damaged.
    """
    check_unclaimed(config)
    _check_machines(config, num_devices, num_nodes, num_workers)
    genes = GeneVocabulary.human()
    model = model_config(config.preset, len(genes), config.model)
    if model.pool == "latent" and config.latent_weight == 0:
        raise ConfigError(
            "latent_weight = 0 trains no latent vector, and the model embeds cells by it; set latent_weight = 1, or "
            'another pool: model.pool = "all".'
        )
    stores = open_stores(
        config.files, genes, min_genes=config.min_genes, joined_by=config.joined_by, in_memory=config.in_memory
    )
    sources = [
        (len(store.panel), config.weights.get(file, 1.0)) for store, file in zip(stores, config.files, strict=True)
    ]
    sampler = Sampler(sources, batch_size=config.batch_size, config=config.sampling, seed=config.seed)
    cells = join(stores)
    network = XTrimoGene(model, seed=config.seed)
    metrics = fit(
        Pretraining(network, config, cells.measured),
        cells,
        sampler,
        _validation(config, genes),
        num_devices=num_devices,
        num_nodes=num_nodes,
        num_workers=num_workers,
        strategy=strategy,
    )
    card = training_card(config, cells, sampler.cells_before(config.num_steps), metrics)
    hashes = hash_store(cells, genes)
    if strategy == "fsdp":
        network = whole_network(network)
    trained = PretrainedModel(
        network.eval().requires_grad_(False), genes, card, name=config.preset, cell_hashes=np.unique(hashes)
    )
    if config.latent_weight > 0:
        device = "cuda" if torch.cuda.is_available() and strategy == "ddp" else "cpu"  # where it is known to fit
        thinning = find_depth_direction(trained, cells, seed=config.seed, device=device)
        if thinning is not None:
            trained = replace(trained, card={**card, "latent_variance_by_thinning": thinning})
    if is_first_process():
        save(trained, Path(config.output) / "model", dtype=torch.float16)
    return trained


def is_first_process() -> bool:
    """Whether this process speaks and writes for all that train together."""
    return getattr(rank_zero_only, "rank", 0) == 0


def training_card(
    config: PretrainConfig, cells: CellStore, cells_seen: int, metrics: Mapping[str, float]
) -> dict[str, Any]:
    """What a model was trained on and with, for card.json."""
    settings = to_dict(config)
    for name in (
        "files",
        "joined_by",
        "weights",
        "validation_files",
        "output",
    ):  # folders of the maker; sources say the rest
        del settings[name]
    return {
        "name": config.preset,
        "trained_on": [dict(source) for source in cells.sources],
        "cells": len(cells.panel),
        "cells_seen": cells_seen,
        "training": settings,
        "final_losses": dict(metrics),
        "seed": config.seed,
        "licence": "not stated",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "xtrimogene": version("xtrimogene"),
        },
        "git_commit": _git_commit(),
    }


def _validation(config: PretrainConfig, genes: GeneVocabulary) -> list[MicroBatch]:
    if not config.validation_files:
        return []
    stores = open_stores(
        config.validation_files,
        genes,
        min_genes=config.min_genes,
        joined_by=config.joined_by,
        in_memory=config.in_memory,
    )
    return validation_batches(join(stores), config)


def _git_commit() -> str | None:
    """Return the commit of the checkout that holds this file, marked where it was changed since; None elsewhere."""
    here = Path(__file__)
    answers = []
    for question in (["ls-files", "--error-unmatch", here.name], ["describe", "--always", "--abbrev=40", "--dirty"]):
        try:
            asked = subprocess.run(["git", *question], cwd=here.parent, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):  # no git, or installed inside somebody's repository
            return None
        answers.append(asked.stdout.strip())
    return answers[1]


def _check_machines(config: PretrainConfig, num_devices: int, num_nodes: int, num_workers: int) -> None:
    for name, number, least in (("devices", num_devices, 1), ("nodes", num_nodes, 1), ("workers", num_workers, 0)):
        if number < least:
            raise ConfigError(f"{name}={number} must be at least {least}.")
    on_cuda = torch.cuda.device_count()
    if on_cuda and num_devices > on_cuda:
        raise ConfigError(f"devices={num_devices}, and this machine has {on_cuda}; give at most so many.")
    lanes = lanes_of(0, num_devices * num_nodes, config.sampling.num_lanes)
    if num_workers and len(lanes) % num_workers:
        raise ConfigError(f"{num_workers} worker processes cannot share {len(lanes)} lanes evenly; choose a divisor.")
