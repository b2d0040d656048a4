"""Writes the losses of a run, and stops it where they are numbers no more."""

import math
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from xtrimogene.errors import ConfigError
from xtrimogene.training.scalar_log import ScalarLog


class LossLog(Callback):
    """Writes what the module logs after every so many steps; ``step`` counts finished steps."""

    def __init__(self, scalars: ScalarLog, every: int) -> None:
        self.scalars = scalars
        self.every = every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.scalars.rewind(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0:
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            if trainer.is_global_zero:
                self.scalars.append(trainer.global_step, metrics)
            for name, value in metrics.items():
                if not math.isfinite(value):
                    raise ConfigError(
                        f"The run has diverged: {name} is {value} after step {trainer.global_step}. Remove its folder "
                        "and begin again with a smaller optimizer.peak_lr or a longer optimizer.warmup_steps."
                    )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.scalars.close()
