"""Shards, their outputs, and the records that say which are done: at least once, and the same each time.

An output is written under a temporary name and renamed, then its record is; a shard whose record is there, of the same
work and the same source, is not done again. So any process may be killed at any moment, and two may do the same shard.
"""

import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtrimogene.atlas.work import Table, write_table
from xtrimogene.data.file_hashes import content_sha256, file_sha256, files_in
from xtrimogene.errors import ConfigError, FileFormatError
from xtrimogene.long_work import whole_file

RUN = "run.json"


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

    def done(self) -> dict[str, Any] | None:
        """Return the record of what was done, if it was, with this source as it is now.

        Raises
        ------
        FileFormatError
            The source is not there, or a record is damaged.
        """
        here = _stamp(self.source)
        try:
            found: dict[str, Any] = json.loads(self.record.read_text())
            before = found["source"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileFormatError(f"{self.record} is damaged ({error}); remove it to do its shard again.") from None
        if not self.table.exists() or before["bytes"] != here["bytes"]:
            return None
        if before["changed"] != here["changed"] and before["sha256"] != content_sha256(self.source):
            return None
        return found

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
        record = {
            "source": {"path": str(self.source), **before, "sha256": content_sha256(self.source)},
            "cells": len(columns["cell"]),
            "unread": num_unread,
            "sha256": file_sha256(self.table),
            "seconds": round(time.perf_counter() - began, 3),
            "warnings": [str(one.message) for one in caught if issubclass(one.category, UserWarning)],
        }
        if _stamp(self.source) != before:
            raise FileFormatError(f"{self.source} was changed while it was read; do it again.")
        with whole_file(self.record) as whole:
            whole.write_text(json.dumps(record, indent=1) + "\n")
        return record


def plan_shards(sources: Sequence[Path], folder: Path, facts: dict[str, Any]) -> list[Shard]:
    """Name the shards, and make the folder theirs: it holds the outputs of one kind of work.

    Raises
    ------
    ConfigError
        No source, one given twice, or a folder that holds other things or those of other work.
    """
    names = [source.stem for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None or not names:
        told = "no shard was given" if twice is None else f"two shards are called {twice!r}"
        raise ConfigError(f"Outputs are called as their shards are, and {told}; give files of different names.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        run = folder / RUN
        if not run.exists():
            if any(not name.startswith(".") for name in os.listdir(folder)):
                raise ConfigError(f"{folder} holds something else; name a new folder.")
            with whole_file(run) as whole:
                whole.write_text(json.dumps(facts, indent=1) + "\n")
        begun = json.loads(run.read_text())
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{folder} cannot be used ({error}); name another folder.") from None
    other = [name for name in facts if begun.get(name) != facts[name]]
    if other:
        raise ConfigError(
            f"{folder} holds shards with {other[0]}={begun.get(other[0])!r}, not {facts[other[0]]!r}; name another "
            "folder, or do as was done there."
        )
    return [Shard(name=name, source=source, folder=folder) for name, source in zip(names, sources, strict=True)]


def sweep(shards: Sequence[Shard]) -> None:
    """Remove what killed processes left under temporary names; only once all shards are done."""
    for folder in {shard.folder for shard in shards}:
        for left in folder.glob(".*"):
            shutil.rmtree(left, ignore_errors=True)


def _stamp(source: Path) -> dict[str, int]:
    """Return the size and the last change of a source, without reading it."""
    if not source.exists():
        raise FileFormatError(f"{source} does not exist; give .h5ad files or .zarr directories.")
    stats = [file.stat() for file in files_in(source)]
    return {"bytes": sum(one.st_size for one in stats), "changed": max((one.st_mtime_ns for one in stats), default=0)}
