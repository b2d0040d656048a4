"""What long work owes its user: a progress bar, no half-written file, and to go on as it began where it was stopped."""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xtrimogene.errors import ConfigError, FileFormatError


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
    """Return how names of temporary folders for ``path`` begin, and for no other path."""
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]  # a whole name may be too long with more to it
    return f".{path.name[:32]}.{digest}."


def begin_run(record: Path, run: Mapping[str, Any], *, remedy: str) -> None:
    """Write what parts beside ``record`` are made of and how, all of it JSON, or find that they are of this very run.

    Of processes that begin at once, one writes the record, and all read it.

    Parameters
    ----------
    remedy
        What to do about another run's, such as "name a new folder".

    Raises
    ------
    ConfigError
        They are of another run; or the record cannot be written, or read.
    FileFormatError
        The record is no JSON object.
    """
    if not record.exists():
        with temporary_folder(record) as scratch:
            whole = scratch / record.name
            whole.write_text(json.dumps(dict(run), indent=1) + "\n")
            try:
                os.link(whole, record)  # which, unlike a move, leaves another's where it is
            except FileExistsError:
                pass
            except OSError:  # a disk without hard links
                os.replace(whole, record)
    try:
        begun = json.loads(record.read_text())
    except OSError as error:
        raise ConfigError(f"{record} cannot be read ({error.strerror or error}); {remedy}.") from error
    except ValueError as error:
        raise FileFormatError(f"{record} is no JSON ({error}); {remedy}.") from error
    if not isinstance(begun, dict):
        raise FileFormatError(f"{record} is no JSON object; {remedy}.")
    now = json.loads(json.dumps(dict(run)))
    for name in [*now, *begun]:
        if begun.get(name) != now.get(name):
            raise ConfigError(
                f"{record.parent} holds parts of another run, with {name}={_short(begun.get(name))} and not "
                f"{_short(now.get(name))}; {remedy}."
            )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
