"""The same shards on Ray: one actor a device, each with its model; a dead actor's shard is done by another."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xtrimogene.atlas.report import Report
from xtrimogene.atlas.runs import part_done
from xtrimogene.atlas.shards import Shard, plan_shards, sweep
from xtrimogene.atlas.work import AnnotateWork, Work
from xtrimogene.checkpoint import load
from xtrimogene.errors import ConfigError, MissingExtraError, XTrimoGeneError
from xtrimogene.long_work import progress_bar

_TRIES = 3  # of a shard whose actors die
_PATIENCE = 600.0  # seconds to wait for a first actor


class _Worker:
    """Lives in an actor."""

    def __init__(self, work: Work, device: str) -> None:
        self._work, self._device = work, device

    def prepare(self) -> str | None:
        """Load the model; return why it cannot be."""
        try:
            self._do = self._work.prepare(load(self._work.model), self._device)
        except XTrimoGeneError as error:
            return str(error)
        return None

    def do(self, shard: Shard) -> dict[str, Any] | str:
        """Return the record, or why there is none."""
        return shard.attempt(self._do)


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
    """Do as `run` does, with up to ``num_workers`` actors that each have a GPU, or a core.

    Those that the cluster can place do the work. A shard whose actor dies is given to another, and has failed when
    three died of it.

    Parameters
    ----------
    address
        Of a cluster, "auto" for the one this machine belongs to. Default: this machine alone. Sources, folder, and
        those of the model and the annotator, are paths that all machines see.
    price
        Of all workers an hour, for the report.

    Raises
    ------
    MissingExtraError
        Ray is not installed: pip install 'xtrimogene[distributed]'.
    ConfigError
        Ray cannot be reached, no actor starts, or none within ten minutes; or as in `run`.
    CheckpointError
        As in `run`.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtraError("Ray is needed: pip install 'xtrimogene[distributed]'.") from None
    if num_workers < 1:
        raise ConfigError(f"num_workers={num_workers} must be at least 1.")
    work = _with_whole_paths(work)
    shards = plan_shards([source.absolute() for source in sources], folder.absolute(), work.facts(load(work.model)))
    failures: dict[str, str] = {}
    began, now = time.perf_counter(), []
    before, left = part_done(shards, failures)
    if left:
        started = not ray.is_initialized()
        if started:
            _start(address, num_workers)
        try:
            actor = ray.remote(**({"num_gpus": 1} if gpus else {"num_cpus": 1}))(_Worker)
            with progress_bar("Shards", len(left), shown=progress) as advance:
                now = _deal(
                    left,
                    lambda: actor.remote(work, "cuda" if gpus else "cpu"),
                    min(num_workers, len(left)),
                    failures,
                    advance,
                )
        finally:
            if started:
                ray.shutdown()
    sweep(shards)
    return Report.of(before, now, failures, time.perf_counter() - began, price)


def _with_whole_paths(work: Work) -> Work:
    """Name the model and the annotator as a worker finds them, which may run in another folder."""
    whole: dict[str, Any] = {}
    if work.model != "demo" and Path(work.model).is_dir():
        whole["model"] = str(Path(work.model).absolute())
    if isinstance(work, AnnotateWork):
        whole["annotator"] = str(Path(work.annotator).absolute())
    return replace(work, **whole)


def _start(address: str | None, num_workers: int) -> None:
    import ray

    own = {} if address is not None else {"num_cpus": num_workers}
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, **own)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ConfigError(f"Ray cannot be reached at address={address!r} ({_line(error)}).") from None


def _deal(
    left: Sequence[Shard],
    new_actor: Callable[[], Any],
    num_workers: int,
    failures: dict[str, str],
    advance: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Return the records of the shards that were done; add the others to the failures."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    waiting, tries, records = list(reversed(left)), Counter[str](), []
    asked: dict[Any, tuple[Any, Shard | None]] = {}  # by answer: whom, and for which shard, None while it prepares

    def hire() -> None:
        worker = new_actor()
        asked[worker.prepare.remote()] = worker, None

    for _ in range(num_workers):
        hire()
    reason, idle = "", list[Any]()
    while waiting or any(shard is not None for _, shard in asked.values()):
        if not asked:
            raise ConfigError(f"No worker of Ray is left for {len(waiting)} shards: {reason}")
        at_work = any(shard is not None for _, shard in asked.values())
        ready, _ = ray.wait(list(asked), num_returns=1, timeout=None if at_work else _PATIENCE)
        if not ready:
            raise ConfigError(f"No worker of Ray was ready in {_PATIENCE:.0f} s; has it the cores or GPUs asked for?")
        worker, shard = asked.pop(ready[0])
        found: dict[str, Any] | str | None
        try:
            found, alive = ray.get(ready[0]), True
        except RayTaskError as error:
            found, alive = f"{type(error.cause).__name__}: {_line(error.cause)}", True
        except RayError as error:
            found, alive = _line(error), False
        if shard is None and found is not None:  # dropped: another would end as it did
            reason = str(found)
            continue
        if alive:
            idle.append(worker)
        elif shard is not None:
            tries[shard.name] += 1
            found = f"{_TRIES} workers of Ray died of it: {found}"
            hire()
        if shard is not None and not alive and tries[shard.name] < _TRIES:
            waiting.append(shard)
        elif shard is not None:
            if isinstance(found, dict):
                records.append(found)
            else:
                failures[shard.name] = str(found)
            advance(1)
        while waiting and idle:
            chosen, shard = idle.pop(), waiting.pop()
            asked[chosen.do.remote(shard)] = chosen, shard
    return records


def _line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
