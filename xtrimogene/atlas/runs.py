"""All shards, or one task's share of them, one after another."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from xtrimogene.atlas.report import Report
from xtrimogene.atlas.shards import Shard, plan_shards, sweep
from xtrimogene.atlas.work import Work
from xtrimogene.checkpoint import load
from xtrimogene.errors import ConfigError, XTrimoGeneError
from xtrimogene.long_work import progress_bar


def run(
    sources: Sequence[Path],
    folder: Path,
    work: Work,
    *,
    task: int = 0,
    num_tasks: int = 1,
    device: str | None = None,
    price: float | None = None,
    progress: bool = True,
) -> Report:
    """Do every shard that is not done; one that fails is named in the report, and the others are done.

    Parameters
    ----------
    sources
        Files of cells, each an .h5ad or a .zarr.
    folder
        Of the outputs: for each shard a Parquet and a record; the same command goes on where it stopped.
    task, num_tasks
        Do this share of the shards alone, counted from 0: one task of a cluster's array.
    price
        Of this machine alone, an hour, for the report; not of the machines of the other tasks.

    Raises
    ------
    ConfigError
        No source, one given twice or called ``run``, a folder that is not ours, a task that is none, or an option that
        the model does not have.
    CheckpointError, MissingExtraError
        The model, or an annotator, cannot be loaded, or the two are not of each other; an extra is missing.
    """
    if not 0 <= task < num_tasks:
        raise ConfigError(f"task={task} is none of {num_tasks}; tasks count from 0.")
    model = load(work.model)
    all_shards = plan_shards(sources, folder, work.facts(model))
    shards = all_shards[task::num_tasks]
    failures: dict[str, str] = {}
    began, now = time.perf_counter(), []
    before, left = part_done(shards, failures)
    if left:
        do = work.prepare(model, device)
        with progress_bar("Shards", len(left), shown=progress) as advance:
            for shard in left:
                found = shard.attempt(do)
                if isinstance(found, str):
                    failures[shard.name] = found
                else:
                    now.append(found)
                advance(1)
    sweep(all_shards)
    return Report.of(before, now, failures, time.perf_counter() - began, price)


def part_done(shards: Iterable[Shard], failures: dict[str, str]) -> tuple[list[dict[str, Any]], list[Shard]]:
    """Return the records of the shards that are done, and the shards that are not; what cannot be read has failed."""
    done, left = [], []
    for shard in shards:
        try:
            record = shard.done()
        except XTrimoGeneError as error:
            failures[shard.name] = str(error)
            continue
        if record is None:
            left.append(shard)
        else:
            done.append(record)
    return done, left
