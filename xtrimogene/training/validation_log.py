"""Validates a run before the first step, after every so many, and after the last."""

from collections.abc import Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.distributed.fsdp import FSDPModule

from xtrimogene.training.lightning_module import Pretraining
from xtrimogene.training.micro_batch import MicroBatch
from xtrimogene.training.scalar_log import ScalarLog


class Validation(Callback):
    """Writes the validation losses of these cells."""

    def __init__(self, batches: Sequence[MicroBatch], scalars: ScalarLog, every: int) -> None:
        self.batches, self.scalars, self.every = batches, scalars, every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.scalars.rewind(trainer.global_step or -1)  # before the first step it is measured again
        if trainer.global_step == 0:
            self._measure(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step % self.every == 0 or step == trainer.max_steps:
            self._measure(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.scalars.close()

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Pretraining)
        if trainer.is_global_zero or isinstance(pl_module, FSDPModule):  # which gathers its weights from all processes
            losses = pl_module.validation_losses(self.batches)
            if trainer.is_global_zero:
                self.scalars.append(trainer.global_step, losses)
