"""One pre-training run, from a config to a checkpoint folder."""

import json
import os
import pickle
import platform
import signal
import subprocess
import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from xtrimogene.checkpoint import PretrainedModel, file_sha256, save
from xtrimogene.config import PretrainConfig, from_dict, to_dict
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import CheckpointError, ConfigError
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.presets import model_config
from xtrimogene.training.data_module import CellDataModule, TrainingCells, read_training_cells
from xtrimogene.training.lightning_module import Pretraining
from xtrimogene.training.loss_log import LossLog
from xtrimogene.training.spectral import begin_with_components
from xtrimogene.training.step_progress import StepProgress

LAST = "last.ckpt"


def read_config(path: str | os.PathLike[str]) -> PretrainConfig:
    """Read a run's TOML; file names in it are relative to the TOML's folder.

    Raises
    ------
    ConfigError
        No such file, no TOML, an unknown setting or a wrong value.
    """
    file = Path(path)
    try:
        values = tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise ConfigError(f"No file {str(file)!r}; a TOML with at least `files` and `output` is needed.") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror}); a TOML is needed.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}.") from None
    for name in ("files", "output"):
        if name not in values:
            raise ConfigError(f"{file}: `{name}` is missing.")
    config = from_dict(PretrainConfig, values, file.name)
    files = tuple(str(file.parent / entry) for entry in config.files)
    joined_by = {str(file.parent / entry): key for entry, key in config.joined_by.items()}
    return replace(config, files=files, joined_by=joined_by, output=str(file.parent / config.output))


def pretrain(config: PretrainConfig) -> PretrainedModel:
    """Train, resuming where an earlier run of the same config stopped, and write ``output/model``.

    The loss log is ``output/log/metrics.csv``; checkpoints of the run are in ``output/checkpoints``.

    Raises
    ------
    ConfigError
        ``output`` holds a run of another config; or the loss is no number any more.
    CheckpointError
        The run's last checkpoint is damaged.
    """
    output = Path(config.output)
    _check_unclaimed(output, config)
    genes = GeneVocabulary.human()
    model = model_config(config.preset, len(genes))
    cells = read_training_cells(config.files, genes, min_genes=config.min_genes, joined_by=config.joined_by)
    network = XTrimoGene(model, seed=config.seed)
    module = Pretraining(network, config, cells.measured)
    _claim(output, config)
    last = output / "checkpoints" / LAST
    _check_readable(last)
    if config.start == "spectral" and not last.is_file():
        begin_with_components(network, cells, config.seed)
    trainer = build_trainer(config)
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # a resumed run's own
            trainer.fit(
                module,
                datamodule=CellDataModule(cells, config),
                ckpt_path=last if last.is_file() else None,
                weights_only=True,
            )
    except SystemExit:  # Lightning's answer to Ctrl-C; it also leaves the process deaf to the next one
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None
    card = training_card(config, cells, {name: float(value) for name, value in trainer.callback_metrics.items()})
    trained = PretrainedModel(network.eval().requires_grad_(False), genes, card, name=config.preset)
    save(trained, output / "model", dtype=torch.float16)
    return trained


def build_trainer(config: PretrainConfig) -> Trainer:
    """Build the Lightning trainer of this run: one process, a loss log, a rolling checkpoint."""
    on_cuda = torch.cuda.is_available()
    bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and on_cuda)
    output = Path(config.output)
    checkpoints = ModelCheckpoint(
        dirpath=output / "checkpoints",
        filename="last",
        every_n_train_steps=config.checkpoint_every,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
    return Trainer(
        accelerator="gpu" if on_cuda else "cpu",
        devices=1,
        precision="bf16-mixed" if bfloat16 else "32-true",
        max_steps=config.num_steps,
        gradient_clip_val=config.optimizer.gradient_clip,
        callbacks=[
            checkpoints,
            LossLog(output / "log" / "metrics.csv", config.log_every),
            StepProgress(config.num_steps),
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def training_card(config: PretrainConfig, cells: TrainingCells, metrics: Mapping[str, float]) -> dict[str, Any]:
    """What a model was trained on and with, for card.json."""
    sources = [
        {**source, "sha256": file_sha256(Path(file)) if Path(file).is_file() else None}
        for source, file in zip(cells.sources, config.files, strict=True)
    ]
    settings = to_dict(config)
    del settings["files"], settings["joined_by"], settings["output"]  # folders of the maker; sources say the rest
    return {
        "name": config.preset,
        "trained_on": sources,
        "cells": int(cells.counts.shape[0]),
        "cells_seen": config.num_steps * config.batch_size,
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


def _check_unclaimed(output: Path, config: PretrainConfig) -> None:
    """A folder belongs to one config: resuming under another would mix two runs."""
    record = output / "config.json"
    if record.is_file() and record.read_text() != _as_json(config):
        raise ConfigError(f"{output} holds a run of another config; name another output, or remove the folder.")
    if (output / "model").exists():
        raise ConfigError(f"{output / 'model'} is finished already; name another output, or remove the folder.")


def _claim(output: Path, config: PretrainConfig) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "config.json").write_text(_as_json(config))
    except OSError as error:
        raise ConfigError(f"{output} cannot be written ({error.strerror}); name another output.") from None


def _check_readable(last: Path) -> None:
    if not last.is_file():
        return
    try:
        torch.load(last, map_location="meta", weights_only=True, mmap=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError):
        raise CheckpointError(f"{last} is damaged, the run cannot go on from it; remove it to begin again.") from None


def _as_json(config: PretrainConfig) -> str:
    return json.dumps(to_dict(config), indent=1) + "\n"
