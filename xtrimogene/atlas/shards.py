"""Shards, their outputs, and the records that say which are done: at least once, and the same each time.

An output is written under a temporary name, the record of an earlier one removed, the output renamed, then its record
written; a shard whose record is there, of the same work, source and output, is not done again. So any process may be
killed at any moment, and two may do the same shard.
"""

import json
import os
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtrimogene.atlas.work import Table, write_table
from xtrimogene.data.file_hashes import content_sha256, file_sha256, files_in
from xtrimogene.errors import ConfigError, FileFormatError, XTrimoGeneError
from xtrimogene.long_work import begin_run, temporary_prefix, whole_file

RUN = "run.json"
_RANDOM = 8  # characters that `tempfile` adds
_DEAD = 3600.0  # seconds


@contextmanager
def _told_of_the_shard() -> Iterator[None]:
    """Make an OSError one of the errors that end a shard, and not the run."""
    try:
        yield
    except OSError as error:
        raise FileFormatError(
            f"{error.filename or 'A file'} cannot be read ({error.strerror or error}); see that it is there and may be "
            "read, and run this again."
        ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """A source, and the folder that its output goes to under ``name``."""

    name: str
    source: Path
    folder: Path

    @property
    def table(self) -> Path:
        return self.folder / f"{self.name}.parquet"

    @property
    def record(self) -> Path:
        return self.folder / f"{self.name}.json"

    @_told_of_the_shard()
    def done(self) -> dict[str, Any] | None:
        """Return the record of what was done, if it was, with this source and this table as they are now.

        A table is told from another by its size; its bytes are read only where it is younger than the record, and those
        of a source only where it was touched: if they are the same, the record says so from then on.

        Raises
        ------
        FileFormatError
            The source is not there, a file cannot be read, or a record is damaged.
        """
        here = _stamp(self.source)
        record = self._read_record()
        if record is None:
            return None
        try:
            source, table, recorded = record["source"], self.table.stat(), self.record.stat()
        except FileNotFoundError:  # another process may be replacing them
            return None
        if source["bytes"] != here["bytes"] or record["bytes"] != table.st_size:
            return None
        if source["changed"] != here["changed"] and source["sha256"] != content_sha256(self.source):
            return None
        younger = table.st_mtime_ns > recorded.st_mtime_ns
        if younger and record["sha256"] != file_sha256(self.table):
            return None
        if younger or source["changed"] != here["changed"]:
            record = {**record, "source": {**source, "changed": here["changed"]}}
            with suppress(ConfigError):  # who may only read the folder reads the bytes again
                self._write_record(record)
        return record

    def attempt(self, work: Callable[[Path], Table]) -> dict[str, Any] | str:
        """Do the work if it is not done; return the record, or a sentence that says why there is none."""
        try:
            return self.done() or self.do(work)
        except XTrimoGeneError as error:
            reason = str(error)
        try:  # another process may have been first, and swept away what this one was writing
            return self.done() or reason
        except XTrimoGeneError:
            return reason

    def _read_record(self) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads(self.record.read_text())
            numbers = [record["cells"], record["unread"], record["bytes"]]
            numbers += [record["source"]["bytes"], record["source"]["changed"]]
            hashes = [record["sha256"], record["source"]["sha256"]]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileFormatError(f"{self.record} is damaged ({error}); remove it to do its shard again.") from None
        if not all(type(one) is int for one in numbers) or not all(type(one) is str for one in hashes):
            raise FileFormatError(f"{self.record} is damaged; remove it to do its shard again.")
        return record

    @_told_of_the_shard()
    def do(self, work: Callable[[Path], Table]) -> dict[str, Any]:
        """Do the work; return its record once it and the output are written.

        Raises
        ------
        FileFormatError
            The source was changed meanwhile; or as the work.
        """
        began, before = time.perf_counter(), _stamp(self.source)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            columns, num_unread = work(self.source)
        with whole_file(self.table) as whole:
            write_table(whole, columns)
            written = {"bytes": whole.stat().st_size, "sha256": file_sha256(whole)}
            self.record.unlink(missing_ok=True)  # it tells of the table that is replaced
        record = {
            "source": {"path": str(self.source), **before, "sha256": content_sha256(self.source)},
            "cells": len(columns["cell"]),
            "unread": num_unread,
            **written,
            "seconds": round(time.perf_counter() - began, 3),
            "warnings": [str(one.message) for one in caught if issubclass(one.category, UserWarning)],
        }
        if _stamp(self.source) != before:
            raise FileFormatError(f"{self.source} was changed while it was read; do it again.")
        self._write_record(record)
        return record

    def _write_record(self, record: dict[str, Any]) -> None:
        with whole_file(self.record) as whole:
            whole.write_text(json.dumps(record, indent=1) + "\n")


def plan_shards(sources: Sequence[Path], folder: Path, facts: dict[str, Any]) -> list[Shard]:
    """Name the shards, and make the folder theirs: it holds the outputs of one kind of work.

    Raises
    ------
    ConfigError
        No source, one given twice or called ``run``, or a folder that holds other things or those of other work.
    FileFormatError
        The record of what the folder holds is damaged.
    """
    names = [source.stem for source in sources]
    number = Counter(name.casefold() for name in names)  # to many disks, names that differ in case are one
    twice = next((name for name in names if number[name.casefold()] > 1), None)
    if twice is not None or not names:
        told = "no shard was given" if twice is None else f"two shards are called {twice!r} (case does not count)"
        raise ConfigError(f"Outputs are called as their shards are, and {told}; give files of different names.")
    if "run" in number:
        raise ConfigError(f"A shard called 'run' would write over {RUN}; give its file another name.")
    run = folder / RUN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Listed before the file is looked for: outputs of another process that came first come after its file.
        others = [name for name in os.listdir(folder) if name != RUN and not name.startswith(temporary_prefix(run))]
    except OSError as error:
        raise ConfigError(f"{folder} cannot be used ({error.strerror or error}); name another folder.") from error
    if others and not run.exists():
        raise ConfigError(f"{folder} holds something else, {others[0]!r}; name a new folder.")
    begin_run(run, facts, remedy="name another folder, or do as was done there")
    return [Shard(name=name, source=source, folder=folder) for name, source in zip(names, sources, strict=True)]


def sweep(shards: Sequence[Shard]) -> None:
    """Remove what killed processes left under our temporary names: all of it once every shard is done.

    Before that, only where nothing was written for an hour: others may be at work.
    """
    age = 0.0 if _all_done(shards) else _DEAD
    ours = {temporary_prefix(path) for shard in shards for path in (shard.table, shard.record, shard.folder / RUN)}
    for folder in {shard.folder for shard in shards}:
        for left in folder.glob(".*"):
            if left.name[:-_RANDOM] in ours and left.is_dir() and time.time() - _last_written(left) >= age:
                shutil.rmtree(left, ignore_errors=True)


def _all_done(shards: Sequence[Shard]) -> bool:
    try:
        return all(shard.done() is not None for shard in shards)
    except XTrimoGeneError:
        return False


def _last_written(folder: Path) -> float:
    """Return seconds since 1970; now, where another process is removing it."""
    try:
        return max(path.stat().st_mtime for path in [folder, *folder.iterdir()])
    except OSError:
        return time.time()


def _stamp(source: Path) -> dict[str, int]:
    """Return the size and the last change of a source, without reading it."""
    if not source.exists():
        raise FileFormatError(f"{source} does not exist; give .h5ad files or .zarr directories.")
    stats = [file.stat() for file in files_in(source)]
    return {"bytes": sum(one.st_size for one in stats), "changed": max((one.st_mtime_ns for one in stats), default=0)}
