"""A process that answers one call after another, and is started again when it dies.

A body of the network is decoded, and a model run, in such a process: what crashes, hangs or eats memory there takes
nothing with it. An error that was raised on purpose comes back as it is; any other ends the process.
"""

import logging
import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock, Timer
from typing import Any, Generic, TypeVar

from xtrimogene.errors import LimitError, XTrimoGeneError

log = logging.getLogger(__name__)
_PRELOADED = ("xtrimogene.serving.reader", "xtrimogene.serving.served_model")
_REST = 5.0  # seconds: a start may read gigabytes, only to be refused
Request = TypeVar("Request")
Reply = TypeVar("Reply")
Handler = Callable[[Request], Reply]


class ChildDied(Exception):
    """The process ended, or was ended, before it answered."""


class ChildHung(ChildDied):
    """It did not answer in time."""


class ChildNotStarted(ChildDied):
    """There is no room for it on this machine now: too many open files, processes or threads."""

    seconds = 5  # when to ask again


@dataclass(frozen=True, slots=True)
class _Refused:
    error: XTrimoGeneError


class Child(Generic[Request, Reply]):
    """``Child(build, ...)`` runs ``build(*arguments)`` in a new process and sends what it is called with to the result.

    ``arguments`` may be replaced: the next process is built with what stands there then.

    Parameters
    ----------
    extra_memory
        Bytes that the process may take beyond what it has once it is built, on Linux. Default: any.
    start_seconds
        Until a start is taken to hang.
    """

    def __init__(
        self,
        build: Callable[..., Handler[Request, Reply]],
        *arguments: Any,
        name: str,
        extra_memory: int | None = None,
        start_seconds: float = 300.0,
    ) -> None:
        self.name, self.num_starts = name, 0
        self._build, self.arguments = build, arguments
        self._extra_memory, self._start_seconds = extra_memory, start_seconds
        self._lock = Lock()
        self._process: Any = None
        self._ready = self._closed = False
        self._rests_until = 0.0
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs and is built."""
        process = self._process
        return self._ready and process is not None and bool(process.is_alive())

    def start(self) -> None:
        """Start the process, if there is none; returns when it is ready.

        Raises
        ------
        ChildDied
            It ended before it was ready.
        ChildNotStarted
            The system does not start it now.
        XTrimoGeneError
            What building raised.
        """
        if self._closed:
            raise ChildDied(f"{self.name} was closed")
        if self._pipe is not None:
            return
        try:
            self._process, self._pipe = self._launch()
        except (OSError, EOFError) as error:
            raise ChildNotStarted(f"there is no room for {self.name} ({error})") from None
        self.num_starts += 1
        try:
            self._receive(self._start_seconds)
        except XTrimoGeneError:
            self._end()
            raise
        self._ready = True

    def call(self, request: Request, seconds: float) -> Reply:
        """Send a request and return the answer; one call at a time, others wait. The process is started if need be.

        Raises
        ------
        ChildHung
            It did not answer, or not even listen, in time and was ended.
        ChildDied
            It ended.
        ChildNotStarted
            It, or what watches it, is not started now.
        XTrimoGeneError
            What the handler raised.
        """
        with self._lock:
            self.start()
            assert self._pipe is not None
            until = time.monotonic() + seconds
            watchdog = Timer(seconds, self.kill)  # a process that stopped does not take a large request
            watchdog.daemon = True
            try:
                watchdog.start()
            except RuntimeError as error:
                raise ChildNotStarted(f"there is no room to watch {self.name} ({error})") from None
            try:
                self._pipe.send(request)
            except OSError:
                self._end()
                hung = time.monotonic() >= until
                raise (ChildHung if hung else ChildDied)(f"{self.name} ended before it was asked") from None
            finally:
                watchdog.cancel()
            return self._receive(max(0.0, until - time.monotonic()))

    def keep(self) -> None:
        """Start it again if it has ended and nobody is calling it; what ends or is refused at its start then rests."""
        if self._lock.acquire(blocking=False):
            try:
                if not self._closed and not self.is_alive and time.monotonic() >= self._rests_until:
                    log.error("%s is gone; it is started again", self.name)
                    self._end()
                    self.start()
            except (ChildDied, XTrimoGeneError) as error:
                log.error("%s cannot be started: %s", self.name, error)
                if not isinstance(error, ChildNotStarted):
                    self._rests_until = time.monotonic() + _REST
            finally:
                self._lock.release()

    def kill(self) -> None:
        """End the process now, also while it is called."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End it for good: whoever calls it hears that it died."""
        self._closed = True
        self.kill()
        with self._lock:
            self._end()

    def _launch(self) -> tuple[Any, Connection]:
        context = multiprocessing.get_context("forkserver")  # forks from a process with what takes seconds to import
        context.set_forkserver_preload(list(_PRELOADED))
        ours, theirs = context.Pipe()
        with theirs:
            process = context.Process(
                target=_run, args=(theirs, self._build, self.arguments, self._extra_memory), name=self.name, daemon=True
            )
            try:
                process.start()
            except BaseException:
                ours.close()
                raise
        return process, ours

    def _receive(self, seconds: float) -> Any:
        assert self._pipe is not None
        try:
            if not self._pipe.poll(seconds):
                raise ChildHung(f"{self.name} did not answer in time")
            answer = self._pipe.recv()
        except (ChildDied, OSError, EOFError) as error:
            self._end()
            raise error if isinstance(error, ChildDied) else ChildDied(f"{self.name} ended") from None
        if isinstance(answer, _Refused):
            raise answer.error
        return answer

    def _end(self) -> None:
        if self._pipe is None:
            return
        self._ready = False
        self._pipe.close()
        self._pipe = None
        self._process.join(1)  # it ends by itself when its pipe is closed
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process = None


def _run(
    pipe: Connection, build: Callable[..., Handler[Any, Any]], arguments: tuple[Any, ...], extra_memory: int | None
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the service ends its children
    try:
        handle = build(*arguments)
    except XTrimoGeneError as error:
        pipe.send(_Refused(error))
        return
    if extra_memory is not None and sys.platform == "linux":
        most = _address_space() + extra_memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    answer: Any = None  # ready
    while True:
        try:
            pipe.send(answer)
            request = pipe.recv()
        except (EOFError, OSError):  # nobody asks any more
            return
        try:
            answer = handle(request)
        except XTrimoGeneError as error:
            answer = _Refused(error)
        except MemoryError:
            answer = _Refused(LimitError("The request asks for more memory than one may have; send fewer cells."))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
