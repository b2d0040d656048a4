"""Train a module in its run's folder, from where that stands to the last step of the config."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ModelParallelStrategy

from xtrimogene.config import PretrainConfig, uses_bfloat16
from xtrimogene.data.cell_store import CellStore, sample_cells
from xtrimogene.data.sampler import Sampler
from xtrimogene.errors import ConfigError
from xtrimogene.training.data_module import CellDataModule
from xtrimogene.training.least_squares import decode_some_cells
from xtrimogene.training.lightning_module import Pretraining
from xtrimogene.training.loss_log import LossLog
from xtrimogene.training.micro_batch import MicroBatch
from xtrimogene.training.quiet_lightning import quiet_lightning
from xtrimogene.training.run_checkpoints import RunCheckpoints, newest_checkpoint
from xtrimogene.training.run_folder import check_unclaimed, claim
from xtrimogene.training.scalar_log import ScalarLog
from xtrimogene.training.spectral import begin_with_components
from xtrimogene.training.step_progress import StepProgress
from xtrimogene.training.validation_log import Validation

SPECTRAL_CELLS = 50_000
Strategy = Literal["ddp", "fsdp"]


def fit(
    module: Pretraining,
    cells: CellStore,
    sampler: Sampler,
    validation: Sequence[MicroBatch] = (),
    *,
    num_devices: int = 1,
    num_nodes: int = 1,
    num_workers: int = 0,
    strategy: Strategy = "ddp",
) -> dict[str, float]:
    """Train, resuming where an earlier run of the same config stopped, and return the last step's losses.

    Under "fsdp" the module's weights stay sharded.

    Raises
    ------
    ConfigError, CheckpointError
        As `xtrimogene.training.pretrain`.
    """
    config = module.config
    output = Path(config.output)
    check_unclaimed(config)
    with quiet_lightning():
        trainer = _build_trainer(config, validation, num_devices=num_devices, num_nodes=num_nodes, strategy=strategy)
        checkpoint = newest_checkpoint(output / "checkpoints")
        if trainer.is_global_zero:
            claim(config)
        if config.start == "spectral" and checkpoint is None:
            some = sample_cells(cells, SPECTRAL_CELLS, block_size=config.sampling.block_size, seed=config.seed)
            begin_with_components(module.network, some, config.masking, config.seed)
            if config.decoder_share > 0:
                module.fit_head(*decode_some_cells(module.network, some, config.masking, config.seed))
        data = CellDataModule(cells, sampler, config, num_workers=num_workers)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return metrics or ScalarLog(output / "log", "metrics").last()  # finished by an earlier sitting


def _build_trainer(
    config: PretrainConfig,
    validation: Sequence[MicroBatch],
    *,
    num_devices: int,
    num_nodes: int,
    strategy: Strategy,
) -> Trainer:
    """Build the Lightning trainer of this run: logs, validation, rolling checkpoints, one or several devices."""
    output, on_cuda = Path(config.output), torch.cuda.is_available()
    logs = {name: ScalarLog(output / "log", name, tensorboard=config.tensorboard) for name in ("metrics", "validation")}
    callbacks: list[Callback] = [LossLog(logs["metrics"], config.log_every)]
    if validation:
        measure = partial(_validation_losses, batches=validation)
        callbacks.append(Validation(measure, logs["validation"], config.validate_every))
    callbacks.append(RunCheckpoints(output / "checkpoints", config.checkpoint_every))
    callbacks.append(StepProgress(config.num_steps))
    return Trainer(
        accelerator="gpu" if on_cuda else "cpu",
        devices=num_devices,
        num_nodes=num_nodes,
        strategy=_strategy(strategy, num_devices * num_nodes),
        precision="bf16-mixed"
        if uses_bfloat16(config.precision, accelerator=on_cuda) and strategy == "ddp"
        else "32-true",
        max_steps=config.num_steps,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _strategy(strategy: Strategy, world_size: int) -> str | ModelParallelStrategy:
    if strategy not in get_args(Strategy):
        raise ConfigError(f"strategy={strategy!r} is not one of {', '.join(get_args(Strategy))}.")
    if strategy == "fsdp":
        return ModelParallelStrategy(world_size, 1, save_distributed_checkpoint=False)
    return "ddp" if world_size > 1 else "auto"


def _validation_losses(module: LightningModule, batches: Sequence[MicroBatch]) -> Mapping[str, float]:
    assert isinstance(module, Pretraining)
    return module.validation_losses(batches)
