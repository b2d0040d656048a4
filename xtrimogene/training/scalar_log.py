"""Numbers by step in a CSV file, and as TensorBoard events if wanted, that survive an interruption."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xtrimogene.errors import MissingExtraError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class ScalarLog:
    """``folder/NAME.csv`` with a column ``step``, and events in ``folder/tensorboard/NAME``.

    Lightning's own CSV logger empties its file when a run is resumed.

    Raises
    ------
    MissingExtraError
        TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: Path, name: str, *, tensorboard: bool = False) -> None:
        self.folder, self.name = folder, name
        self.path = folder / f"{name}.csv"
        self._make_events = _summary_writer() if tensorboard else None
        self._events: SummaryWriter | None = None

    def rewind(self, step: int) -> None:
        """Drop what came after this step, which is run again; call it before `append`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._make_events is not None:
            self._events = self._make_events(self.folder / "tensorboard" / self.name, purge_step=step + 1)
        if not self.path.is_file():
            return
        with self.path.open(newline="") as stream:
            reader = csv.DictReader(stream)
            columns, rows = list(reader.fieldnames or []), list(reader)
        if not columns:  # a process that was killed as it made the file
            self.path.unlink()
            return
        whole = [row for row in rows if None not in row.values() and row["step"].isdigit()]
        kept = [row for row in whole if int(row["step"]) <= step]
        scratch = self.path.with_suffix(".tmp")
        with scratch.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        scratch.replace(self.path)

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row; the first one decides the columns."""
        row = {"step": step, **values}
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
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{self.name}/{name}", value, step)

    def last(self) -> dict[str, float]:
        """Return the values of the last row; none where nothing was written."""
        if not self.path.is_file():
            return {}
        with self.path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        return {name: float(value) for name, value in rows[-1].items() if name != "step"} if rows else {}

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


def _summary_writer() -> "type[SummaryWriter]":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError(
            "tensorboard = true needs TensorBoard: pip install 'xtrimogene[tensorboard]'."
        ) from None
    return SummaryWriter
