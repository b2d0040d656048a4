"""One pre-training run of a protein model, from a config to a model folder."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from xtrimogene.config import from_dict, read_toml, to_dict, uses_bfloat16
from xtrimogene.errors import ConfigError
from xtrimogene.protein.config import Objective, ObjectiveStage, ProteinPretrainConfig
from xtrimogene.protein.network.checkpoint import ProteinModel, load_protein_model, save_protein_model
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.sequences.sequence_store import SequenceStore
from xtrimogene.protein.tokenizer import ProteinTokenizer
from xtrimogene.protein.training.data_module import ProteinDataModule
from xtrimogene.protein.training.held_out import held_out_loss
from xtrimogene.protein.training.lightning_module import ProteinPretraining
from xtrimogene.training.loss_log import LossLog
from xtrimogene.training.quiet_lightning import quiet_lightning
from xtrimogene.training.run_checkpoints import RunCheckpoints, newest_checkpoint
from xtrimogene.training.run_folder import check_unclaimed, claim
from xtrimogene.training.scalar_log import ScalarLog
from xtrimogene.training.step_progress import StepProgress
from xtrimogene.training.validation_log import Validation


def read_config(path: str | os.PathLike[str]) -> ProteinPretrainConfig:
    """Read a run's TOML; file names in it are relative to the TOML's folder.

    Raises
    ------
    ConfigError
        No such file, no TOML, an unknown setting or a wrong value.
    """
    file = Path(path)
    config = from_dict(ProteinPretrainConfig, read_toml(file, ("files", "output", "stages")), file.name)
    folder = file.parent.resolve()  # the same run, from wherever it is called
    start = config.initialize_from
    return replace(
        config,
        files=tuple(str(folder / entry) for entry in config.files),
        validation_files=tuple(str(folder / entry) for entry in config.validation_files),
        output=str(folder / config.output),
        initialize_from=None if start is None else str(folder / start),
    )


def pretrain(config: ProteinPretrainConfig) -> ProteinModel:
    """Train on one device, resuming where an earlier run of the same config stopped, and write ``output/model``.

    ``output/log/metrics.csv`` holds the losses, ``validation.csv`` beside it those of the validation files, and
    ``output/checkpoints`` the last two checkpoints of the run.

    Raises
    ------
    ConfigError
        ``output`` holds a run of another config or of other sequences, ``initialize_from`` another kind of model, or
        the loss is no number any more.
    FileFormatError, SequenceError, MissingExtraError
        The files cannot be read.
    CheckpointError
        All of the run's checkpoints are damaged, or there is no model to begin with.
    """
    check_unclaimed(config)
    tokenizer = ProteinTokenizer.named(config.tokenizer)
    if config.model.vocabulary_size < tokenizer.size:
        raise ConfigError(
            f"model.vocabulary_size={config.model.vocabulary_size} is too small for the vocabulary {tokenizer.name!r}, "
            f"which has {tokenizer.size} ids; raise it."
        )
    network = _begin(config)
    store = SequenceStore.from_files(config.files, tokenizer, max_length=config.model.max_length, column=config.column)
    module = ProteinPretraining(network.train(), config)
    output, on_cuda = Path(config.output), torch.cuda.is_available()
    in_bfloat16 = uses_bfloat16(config.precision, accelerator=on_cuda)
    metrics, validation = (ScalarLog(output / "log", name) for name in ("metrics", "validation"))
    callbacks: list[Callback] = [LossLog(metrics, config.log_every)]
    if config.validation_files:
        callbacks.append(Validation(_validation(config, tokenizer), validation, config.validate_every))
    with quiet_lightning():
        trainer = Trainer(
            accelerator="gpu" if on_cuda else "cpu",
            devices=1,
            precision="bf16-mixed" if in_bfloat16 else "32-true",
            max_steps=config.num_steps,
            callbacks=[
                *callbacks,
                RunCheckpoints(output / "checkpoints", config.checkpoint_every),
                StepProgress(config.num_steps),
            ],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        checkpoint = newest_checkpoint(output / "checkpoints")
        claim(config)
        data = ProteinDataModule(store, config)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    card = {
        "sequences": int(store.starts.sum()),
        "tokens": len(store.tokens),
        "final_losses": metrics.last(),
        "validation_losses": validation.last(),
        "training": to_dict(config),
    }
    trained = ProteinModel(network.eval().requires_grad_(False), tokenizer, card, output.name)
    save_protein_model(trained, output / "model")
    return trained


def _validation(
    config: ProteinPretrainConfig, tokenizer: ProteinTokenizer
) -> Callable[[LightningModule], dict[str, float]]:
    """Return what measures the loss of every objective that the run has, on the validation files."""
    sequences = SequenceStore.from_files(
        config.validation_files, tokenizer, max_length=config.model.max_length, column=config.column
    )
    trained = [name for name in get_args(Objective) if any(stage.shares[name] for stage in config.stages)]

    def measure(module: LightningModule) -> dict[str, float]:
        assert isinstance(module, ProteinPretraining)
        with module.trainer.precision_plugin.forward_context():
            return {
                f"{name}_loss": held_out_loss(
                    module.network,
                    tokenizer,
                    sequences,
                    ObjectiveStage(num_steps=1, **{name: 1.0}),
                    masking=config.masking,
                    spans=config.spans,
                )
                for name in trained
            }

    return measure


def _begin(config: ProteinPretrainConfig) -> ProteinLM:
    """Draw a network, or take the weights of a trained one."""
    if config.initialize_from is None:
        return ProteinLM(config.model, seed=config.seed)
    earlier = load_protein_model(config.initialize_from)
    shape = replace(earlier.network.config, max_length=config.model.max_length)
    if shape != config.model or earlier.tokenizer.name != config.tokenizer:
        raise ConfigError(
            f"initialize_from={config.initialize_from!r} is a model of another shape or vocabulary: {shape}, "
            f"{earlier.tokenizer.name!r}; set model and tokenizer to these."
        )
    network = ProteinLM(config.model, seed=config.seed)
    network.load_state_dict(earlier.network.state_dict())
    return network
