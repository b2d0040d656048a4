"""Validates a run before the first step, after every so many, and after the last."""

from collections.abc import Callable, Mapping
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.distributed.fsdp import FSDPModule

from xtrimogene.training.scalar_log import ScalarLog


class Validation(Callback):
    """Writes what ``measure`` finds of the module."""

    def __init__(
        self, measure: Callable[[LightningModule], Mapping[str, float]], scalars: ScalarLog, every: int
    ) -> None:
        self.measure, self.scalars, self.every = measure, scalars, every

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
        if trainer.is_global_zero or isinstance(pl_module, FSDPModule):  # which gathers its weights from all processes
            losses = self.measure(pl_module)
            if trainer.is_global_zero:
                self.scalars.append(trainer.global_step, losses)
