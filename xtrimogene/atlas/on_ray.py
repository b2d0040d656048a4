"""The same shards on Ray: one actor a device, each with its model; a dead actor's shard is done by another."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xtrimogene.atlas.report import Report
from xtrimogene.atlas.runs import part_done
from xtrimogene.atlas.shards import Shard, plan_shards, sweep
from xtrimogene.atlas.work import Work
from xtrimogene.errors import ConfigError, MissingExtraError, XTrimoGeneError
from xtrimogene.long_work import progress_bar


class _Worker:
    """Lives in an actor."""

    def __init__(self, work: Work, device: str) -> None:
        self._do = work.prepare(device)

    def do(self, shard: Shard) -> dict[str, Any] | str:
        """Return the record, or why there is none."""
        try:
            return shard.done() or shard.do(self._do)
        except XTrimoGeneError as error:
            return str(error)


def run_on_ray(
    sources: Sequence[Path],
    folder: Path,
    work: Work,
    *,
    num_workers: int,
    gpus: bool = False,
    address: str | None = None,
    price: float | None = None,
    progress: bool = True,
) -> Report:
    """Do as `run` does, with ``num_workers`` actors that each have a GPU, or a core.

    Parameters
    ----------
    address
        Of a cluster, "auto" for the one this machine belongs to. Default: this machine alone. Sources and folder are
        paths that all machines see.
    price
        Of all workers an hour, for the report.

    Raises
    ------
    MissingExtraError
        Ray is not installed: pip install 'xtrimogene[distributed]'.
    ConfigError, CheckpointError
        As in `run`.
    """
    try:
        import ray
        from ray.exceptions import RayActorError
    except ImportError:
        raise MissingExtraError("Ray is needed: pip install 'xtrimogene[distributed]'.") from None
    if num_workers < 1:
        raise ConfigError(f"num_workers={num_workers} must be at least 1.")
    shards = plan_shards([source.resolve() for source in sources], folder.resolve(), work.facts())
    failures: dict[str, str] = {}
    began, now = time.perf_counter(), []
    before, left = part_done(shards, failures)
    if left:
        started = not ray.is_initialized()
        if started:
            own = {} if address is not None else {"num_cpus": num_workers}
            ray.init(address=address, include_dashboard=False, log_to_driver=False, **own)
        resources = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        actor = ray.remote(max_restarts=-1, **resources)(_Worker)
        workers = [actor.remote(work, "cuda" if gpus else "cpu") for _ in range(min(num_workers, len(left)))]
        waiting, running = list(reversed(left)), {}

        def give(worker: Any) -> None:
            if waiting:
                shard = waiting.pop()
                running[worker.do.remote(shard)] = worker, shard

        try:
            with progress_bar("Shards", len(left), shown=progress) as advance:
                for worker in workers:
                    give(worker)
                while running:
                    (finished,), _ = ray.wait(list(running), num_returns=1)
                    worker, shard = running.pop(finished)
                    try:
                        found = ray.get(finished)
                    except RayActorError:
                        waiting.append(shard)
                        give(worker)
                        continue
                    if isinstance(found, str):
                        failures[shard.name] = found
                    else:
                        now.append(found)
                    advance(1)
                    give(worker)
        finally:
            if started:
                ray.shutdown()
    if not failures:
        sweep(shards)
    return Report.of(before, now, failures, time.perf_counter() - began, price)
