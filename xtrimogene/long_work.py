"""What long work owes its user: a progress bar on a terminal, and no half-written file."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xtrimogene.errors import ConfigError


@contextmanager
def progress_bar(title: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number of steps just done; drawn on stderr, and only where that is a terminal."""
    if not (shown and sys.stderr.isatty()):
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)
        yield lambda steps: progress.advance(task, steps)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write to; it becomes ``path`` at the end, and nothing is left of it on an error.

    Raises
    ------
    ConfigError
        The folder of ``path`` cannot be written to, or the disk is full.
    """
    with temporary_folder(path) as scratch:
        yield scratch / path.name
        os.replace(scratch / path.name, path)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside ``path`` that is gone afterwards; an OSError inside is a ConfigError about ``path``."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=temporary_prefix(path)) as scratch:
            yield Path(scratch)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error}); name another place.") from error


def temporary_prefix(path: Path) -> str:
    """Return how the name of a temporary folder for ``path`` begins."""
    return f".{path.name[:32]}."
