"""The losses of a run as a CSV file that survives an interruption."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from xtrimogene.errors import ConfigError


class LossLog(Callback):
    """Writes what the module logs after every so many steps; ``step`` counts finished steps. Stops a diverged run.

    Lightning's own CSV logger empties the file when a run is resumed. Here, rows of steps that are run again go.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.is_file():
            return
        with self.path.open(newline="") as stream:
            reader = csv.DictReader(stream)
            columns, rows = list(reader.fieldnames or []), list(reader)
        kept = [row for row in rows if row.get("step", "").isdigit() and int(row["step"]) <= trainer.global_step]
        scratch = self.path.with_suffix(".tmp")
        with scratch.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        scratch.replace(self.path)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0:
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            self._append({"step": trainer.global_step, **metrics})
            for name, value in metrics.items():
                if not math.isfinite(value):
                    raise ConfigError(
                        f"The run has diverged: {name} is {value} after step {trainer.global_step}. Remove its folder "
                        "and begin again with a smaller optimizer.peak_lr or a longer optimizer.warmup_steps."
                    )

    def _append(self, row: Mapping[str, int | float]) -> None:
        is_new = not self.path.is_file()
        if is_new:
            columns = list(row)
        else:
            with self.path.open(newline="") as stream:
                columns = next(csv.reader(stream))
        with self.path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, columns, extrasaction="ignore")
            if is_new:
                writer.writeheader()
            writer.writerow(row)
