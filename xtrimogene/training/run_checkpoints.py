"""Checkpoints of a run: written whole or not at all, the last two kept, a damaged one never read.

A checkpoint is a zip file, and the zip format keeps a checksum of each entry: that tells a damaged file.
"""

import os
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from xtrimogene.errors import CheckpointError

KEPT = 2
SCRATCH = "unfinished-"


class RunCheckpoints(Callback):
    """Writes ``step-00000123.ckpt`` every so many steps."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        self.every = every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0:
            name = f"step-{trainer.global_step:08d}.ckpt"
            # Lightning's own writing may leave half a file: it moves it from another folder, perhaps of another disk
            trainer.save_checkpoint(self.folder / f"{SCRATCH}{name}", weights_only=False)
            if trainer.is_global_zero:
                _publish(self.folder / f"{SCRATCH}{name}", self.folder / name)
                for old in checkpoints(self.folder)[KEPT:]:
                    old.unlink()


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, the newest first."""
    return sorted(folder.glob("step-*.ckpt"), reverse=True)


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that is whole; None where there is none yet.

    Raises
    ------
    CheckpointError
        There are checkpoints, and each is damaged.

    Warns
    -----
    UserWarning
        A newer one is damaged.
    """
    found = checkpoints(folder)
    for number, path in enumerate(found):
        if is_whole(path):
            if number:
                damaged = ", ".join(other.name for other in found[:number])
                warnings.warn(f"{damaged} of {folder} is damaged; going on from {path.name}.", stacklevel=2)
            return path
    if found:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(
            f"{names} of {folder} are damaged, the run cannot go on from them; remove them to begin again."
        )
    return None


def is_whole(path: Path) -> bool:
    """Compare each entry with its checksum; all of the file is read."""
    try:
        with zipfile.ZipFile(path) as entries:
            return entries.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError):
        return False


def remove_scratch(folder: Path) -> None:
    """Remove what a process left that was killed while it wrote."""
    for scratch in folder.glob(f"{SCRATCH}*"):
        scratch.unlink()


def _publish(scratch: Path, place: Path) -> None:
    """Give a file its name once all of it is on the disk."""
    with scratch.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(scratch, place)
