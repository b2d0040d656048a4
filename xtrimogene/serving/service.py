"""Requests to answers: read in one process, queue, compute in another. Knows nothing of HTTP."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Literal

import numpy as np
from anndata import AnnData
from scipy.sparse import csr_matrix

from xtrimogene.config import ModelConfig, Pool, from_dict
from xtrimogene.data.read_depth import ReadDepth
from xtrimogene.errors import ConfigError, FileFormatError, LimitError, ServiceError
from xtrimogene.inference import readable_cells, vector_width
from xtrimogene.serving.batching import QueueFull
from xtrimogene.serving.child import Child, ChildDied, ChildNotStarted
from xtrimogene.serving.json_cells import JSON
from xtrimogene.serving.limits import Limits
from xtrimogene.serving.reader import Matched, Unread, build_reader
from xtrimogene.serving.served_model import Expression, Labels, ModelHost, ServedModel, Vectors
from xtrimogene.serving.wire import Answer
from xtrimogene.tl.embedding import check_vectors, reading_record

log = logging.getLogger(__name__)
_LATER = 60  # seconds, where a request waited in vain


class NoSuchName(Exception):
    """A model or annotator that is not served here."""


class Service:
    """Hosts models; `start` returns when all are ready, `close` when what waits is answered."""

    def __init__(self, models: Sequence[ServedModel], *, limits: Limits, num_readers: int = 1) -> None:
        names = [model.name for model in models]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"The models served are {', '.join(names) or 'none'}; name at least one, each once.")
        self.limits = limits
        self.hosts = {model.name: ModelHost(model, limits) for model in models}
        self.default = names[0]
        self.readers = [
            Child[Unread, Matched | AnnData](
                build_reader, name=f"reader {number}", extra_memory=4 * limits.max_decoded_bytes
            )
            for number in range(num_readers)
        ]
        self._idle: SimpleQueue[Child[Unread, Matched | AnnData]] = SimpleQueue()
        self._threads = ThreadPoolExecutor(num_readers, "reader")
        self._turn = asyncio.Semaphore(num_readers)
        self._keeper = Thread(target=self._keep, name="keeper", daemon=True)
        self._closing = Event()
        self._waiting_bytes = 0

    def start(self) -> None:
        """Start all processes, if they have not been.

        Raises
        ------
        CheckpointError
            A model or an annotator cannot be loaded.
        ServiceError
            A process ends, or hangs, before it is ready.
        """
        if self._keeper.is_alive():
            return
        try:
            with ThreadPoolExecutor(8, "start") as threads:
                list(threads.map(ModelHost.start, self.hosts.values()))
                genes = {name: host.facts.genes for name, host in self.hosts.items()}
                for reader in self.readers:
                    reader.arguments = (genes, self.limits)
                list(threads.map(Child.start, self.readers))
        except BaseException as error:
            for child in self.children:
                child.close()
            if isinstance(error, ChildDied):
                raise ServiceError(
                    f"The service did not start: {error}. Is there memory for it? Host fewer models, or where there is "
                    "more."
                ) from None
            raise
        for reader in self.readers:
            self._idle.put(reader)
        self._keeper.start()

    def close(self) -> None:
        """End all processes; what has not been answered fails."""
        if self._closing.is_set():
            return
        self._closing.set()
        for host in self.hosts.values():
            host.close()
        for reader in self.readers:
            reader.close()
        self._threads.shutdown()
        self._keeper.join()

    @property
    def children(self) -> list[Child[Any, Any]]:
        return [*self.readers, *(host.child for host in self.hosts.values())]

    @property
    def is_ready(self) -> bool:
        kept = self._keeper.is_alive() and not self._closing.is_set()
        return kept and all(host.is_alive for host in self.hosts.values()) and all(one.is_alive for one in self.readers)

    def _keep(self) -> None:
        while not self._closing.wait(0.5):
            for child in self.children:
                child.keep()

    def host(self, model: str | None) -> ModelHost:
        name = model or self.default
        if name not in self.hosts:
            raise NoSuchName(f"There is no model {name[:80]!r} here; there are {', '.join(self.hosts)}.")
        return self.hosts[name]

    @contextmanager
    def room(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that takes memory for so many bytes of a request; all of it is given back at the end.

        The function raises QueueFull where there is none.
        """
        held = 0

        def hold(num_bytes: int) -> None:
            nonlocal held
            if self._waiting_bytes + num_bytes > self.limits.max_waiting_bytes:
                raise QueueFull(1)
            self._waiting_bytes += num_bytes
            held += num_bytes

        try:
            yield hold
        finally:
            self._waiting_bytes -= held

    async def embed(self, unread: Unread, *, pool: Pool | None, read_depth: str | None) -> Answer:
        host = self.host(unread.model)
        facts = host.facts
        pool, depth = pool or facts.pool, read_depth or facts.read_depth
        width = vector_width(from_dict(ModelConfig, facts.config, "model"), pool)
        ReadDepth.parse(depth)
        matched = await self._matched(unread)
        key = Vectors(pool=pool, read_depth=depth, normalized=matched.read_as == "values")
        self._require_small(unread, matched.counts.shape[0] * width)
        vectors = await self._computed(host, key, matched.counts, width)
        unreadable = ~readable_cells(matched.counts)
        check_vectors(vectors, int(unreadable.sum()), facts.name)
        options: dict[str, Any] = {"matrix": "X", "input_kind": unread.input_kind, "kind": unread.kind}
        options |= {"read_as": matched.read_as, "pool": pool, "read_depth": depth, "min_genes": unread.min_genes}
        return self._answer({"vector": vectors}, matched, host, options)

    async def expression(
        self, unread: Unread, *, read_depth: str | None, through: Literal["decoder", "latent"] | None
    ) -> Answer:
        host = self.host(unread.model)
        latent = host.facts.config["latent_dim"] is not None
        if through == "latent" and not latent:
            raise ConfigError("through='latent' needs a model with a latent cell vector; choose 'decoder'.")
        through = through or ("latent" if latent else "decoder")
        depth = read_depth or host.facts.read_depth
        ReadDepth.parse(depth)
        matched = await self._matched(unread)
        assert matched.places is not None and unread.genes is not None
        key = Expression(
            through=through,
            places=matched.places,
            read_depth=depth,
            normalized=matched.read_as == "values",
            measured=np.packbits(matched.measured).tobytes(),
        )
        self._require_small(unread, matched.counts.shape[0] * len(matched.places))
        values = await self._computed(host, key, matched.counts, len(key.places))
        options = {"read_as": matched.read_as, "read_depth": depth, "through": through, "genes": list(unread.genes)}
        return self._answer({"expression": values}, matched, host, options)

    async def annotate(self, unread: Unread, *, annotator: str, options: Mapping[str, Any]) -> Answer:
        host = self.host(unread.model)
        if annotator not in host.facts.annotators:
            there = ", ".join(host.facts.annotators) or "none"
            raise NoSuchName(f"There is no annotator {annotator[:80]!r} of this model here; there are {there}.")
        cells = await self._read(unread)
        assert isinstance(cells, AnnData)
        answers = host.submit(Labels(cells=cells, annotator=annotator, options=options), csr_matrix(cells.X))
        (answer,) = await _all(answers)
        return answer

    def _require_small(self, unread: Unread, numbers: int) -> None:
        most = self.limits.max_json_numbers if unread.media_type == JSON else self.limits.max_decoded_bytes // 4
        if numbers > most:
            kind = "JSON" if unread.media_type == JSON else "Arrow"
            raise LimitError(f"The answer would hold more than {most:,} numbers in {kind}; ask for less at once.")

    async def _matched(self, unread: Unread) -> Matched:
        matched = await self._read(unread)
        assert isinstance(matched, Matched)
        return matched

    async def _read(self, unread: Unread) -> Matched | AnnData:
        """Read a body when a reader is free; a body that nobody waits for any more is not kept."""
        self.host(unread.model).batcher.require_room()
        await self._turn.acquire()
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._threads, self._read_now, unread)
        except RuntimeError:  # no thread is started for it now
            self._turn.release()
            raise QueueFull(ChildNotStarted.seconds) from None
        reading.add_done_callback(self._next_turn)
        return await asyncio.shield(reading)

    def _next_turn(self, read: "asyncio.Future[Any]") -> None:
        self._turn.release()
        if not read.cancelled():
            read.exception()  # has been told to whoever waits, if anybody does

    def _read_now(self, unread: Unread) -> Matched | AnnData:
        """Read a body, in a second process if the first one dies of it."""
        reader = self._idle.get()
        try:
            for _ in range(2):
                try:
                    return reader.call(unread, self.limits.batch_seconds)
                except ChildNotStarted as error:
                    raise QueueFull(error.seconds) from None
                except ChildDied as death:
                    log.error("%s of a body of %d bytes", death, len(unread.body))
            raise FileFormatError("The body cannot be read: whatever reads it ends; send what xt.Client writes.")
        finally:
            self._idle.put(reader)

    async def _computed(self, host: ModelHost, key: Vectors | Expression, counts: csr_matrix, width: int) -> np.ndarray:
        with self.room() as hold:
            hold(4 * counts.shape[0] * width)
            return np.concatenate(await _all(host.submit(key, counts)))

    def _answer(self, columns: dict[str, Any], matched: Matched, host: ModelHost, options: dict[str, Any]) -> Answer:
        num_unread = int((~readable_cells(matched.counts)).sum())
        said = list(matched.warnings)
        if num_unread:
            said.append(
                f"{num_unread:,} of {matched.counts.shape[0]:,} cells have no counts in the model's genes; their rows "
                "are NaN."
            )
        record: dict[str, Any] = {"model": host.facts.name, "sha256": host.facts.sha256, "options": options}
        if matched.report is not None:
            record = reading_record(host.facts.name, host.facts.sha256, options, matched.report)
        if matched.names is not None:
            columns = {"cell": list(matched.names), **columns}
        return Answer(columns=columns, meta={"record": record, "warnings": said})


async def _all(futures: "Sequence[Future[Any]]") -> list[Any]:
    """Wait for all; where one fails, or nobody waits any more, what has not begun leaves the queue.

    Raises
    ------
    QueueFull
        Nobody waits any more, and none has begun.
    """
    try:
        return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))
    except BaseException as error:
        begun = [future for future in futures if not future.cancel()]
        task = asyncio.current_task()  # where it is not cancelled, the queue was dropped
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() and not begun:
            raise QueueFull(_LATER) from None
        raise
