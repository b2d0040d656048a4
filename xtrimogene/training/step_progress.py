"""How far a run is, on a terminal."""

from contextlib import ExitStack
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from xtrimogene.long_work import progress_bar


class StepProgress(Callback):
    """Draws finished steps, those of earlier sittings too."""

    def __init__(self, num_steps: int, *, title: str = "Training steps", shown: bool = True) -> None:
        self.num_steps, self.title, self.shown = num_steps, title, shown
        self._drawn = ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        bar = progress_bar(self.title, self.num_steps, shown=self.shown and trainer.is_global_zero)
        self._advance = self._drawn.enter_context(bar)
        self._advance(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._advance(1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._drawn.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._drawn.close()
