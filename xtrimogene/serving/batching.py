"""Cells of many requests in one batch: the model is never run on less than it could, nor waited for longer than said.

A cell's vector does not depend on the batch it was in, so cells of all requests for the same computation may share one.
"""

import time
from collections import deque
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix


class QueueFull(Exception):
    """So much waits already that nothing more is taken; ``seconds`` says when to ask again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the queue is full; ask again in {seconds} s")
        self.seconds = seconds


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Job:
    """Cells that are computed together; ``key`` says what, and equal keys may share a batch.

    ``tokens_per_cell`` are those that a cell costs beside its expressed genes.
    """

    key: Hashable
    counts: csr_matrix
    tokens_per_cell: int = 1
    result: "Future[Any]" = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)

    @property
    def num_tokens(self) -> int:
        return int(self.counts.nnz) + self.tokens_per_cell * self.counts.shape[0]


class MicroBatcher:
    """A bounded queue of jobs, taken in batches by whoever runs the model.

    Parameters
    ----------
    max_tokens
        Expressed genes of a batch.
    max_waiting
        Expressed genes that may wait.
    max_seconds
        How long those that wait or run may take, when more come; by the speed that `done` was told of.
    patience
        Seconds that a job may wait for others to fill its batch.
    """

    def __init__(self, *, max_tokens: int, max_waiting: int, max_seconds: float, patience: float) -> None:
        self.max_tokens, self.max_waiting = max_tokens, max_waiting
        self.max_seconds, self.patience = max_seconds, patience
        self._jobs: deque[Job] = deque()
        self._changed = Condition()
        self._waiting = self._running = 0
        self._closed = False
        self._tokens_a_second = 0.0

    @property
    def num_waiting(self) -> int:
        """Expressed genes that wait."""
        return self._waiting

    def submit(
        self, key: Hashable, counts: csr_matrix, *, whole: bool = False, tokens_per_cell: int = 1
    ) -> "list[Future[Any]]":
        """Queue cells, cut into jobs of a batch's size at most; their results come in the order of the cells.

        Parameters
        ----------
        whole
            Do not cut: what is computed depends on all of the cells.
        tokens_per_cell
            What a cell costs beside its expressed genes, such as the genes asked of a decoder.

        Raises
        ------
        QueueFull
            They find no place: none is queued.
        """
        pieces = [(0, counts.shape[0])] if whole else self._cut(counts, tokens_per_cell)
        jobs = [Job(key=key, counts=counts[start:stop], tokens_per_cell=tokens_per_cell) for start, stop in pieces]
        tokens = sum(job.num_tokens for job in jobs)
        with self._changed:
            self._require_room(tokens)
            self._jobs.extend(jobs)
            self._waiting += tokens
            self._changed.notify_all()
        return [job.result for job in jobs]

    def require_room(self) -> None:
        """Refuse what would find no place anyway, before anything is done for it.

        Raises
        ------
        QueueFull
            No cell would be taken now.
        """
        with self._changed:
            self._require_room(1)

    def take(self, seconds: float) -> list[Job] | None:
        """Wait for the next batch, of one key: [] where no job came in time, None when closed and empty.

        Who asks for the next has ended the one before.
        """
        until = time.monotonic() + seconds
        with self._changed:
            self._running = 0
            while True:
                self._drop_cancelled()
                now = time.monotonic()
                if self._jobs:
                    first = self._jobs[0]
                    full = self._tokens_of(first.key) >= self.max_tokens
                    if (full or self._closed or now >= first.since + self.patience) and (
                        batch := self._take(first.key)
                    ):
                        return batch
                    until = min(until, first.since + self.patience) if self._jobs else until
                elif self._closed:
                    return None
                if now >= until and not self._jobs:
                    return []
                self._changed.wait(max(0.0, until - now))

    def done(self, tokens: int, seconds: float) -> None:
        """Hear how long a batch took, to tell others when to ask again."""
        speed = tokens / max(seconds, 1e-6)
        self._tokens_a_second = speed if not self._tokens_a_second else 0.8 * self._tokens_a_second + 0.2 * speed

    def close(self) -> None:
        """Take no more jobs; those that wait are still taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drop(self) -> None:
        """Take no more jobs, and give up those that wait."""
        with self._changed:
            for job in self._jobs:
                job.result.cancel()
        self.close()

    def _take(self, key: Hashable) -> list[Job]:
        taken: list[Job] = []
        kept: deque[Job] = deque()
        tokens = 0
        for job in self._jobs:
            fits = job.key == key and (not taken or tokens + job.num_tokens <= self.max_tokens)
            if fits and job.result.set_running_or_notify_cancel():
                taken.append(job)
                tokens += job.num_tokens
            elif not fits:
                kept.append(job)
            else:
                self._waiting -= job.num_tokens
        self._jobs = kept
        self._waiting -= tokens
        self._running = tokens
        return taken

    def _drop_cancelled(self) -> None:
        gone = [job for job in self._jobs if job.result.cancelled()]
        if gone:
            self._jobs = deque(job for job in self._jobs if not job.result.cancelled())
            self._waiting -= sum(job.num_tokens for job in gone)

    def _tokens_of(self, key: Hashable) -> int:
        return sum(job.num_tokens for job in self._jobs if job.key == key)

    def _cut(self, counts: csr_matrix, tokens_per_cell: int) -> list[tuple[int, int]]:
        pieces, start = [], 0
        ends = counts.indptr[1:].astype(np.int64) + tokens_per_cell * np.arange(1, counts.shape[0] + 1)
        while start < counts.shape[0]:
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + self.max_tokens, side="right")))
            pieces.append((start, stop))
            start = stop
        return pieces

    def _require_room(self, tokens: int) -> None:
        before = self._waiting + self._running
        seconds = before / self._tokens_a_second if self._tokens_a_second else 0.0
        is_full = self._waiting > 0 and self._waiting + tokens > self.max_waiting
        if self._closed or is_full or seconds > self.max_seconds:
            raise QueueFull(min(60, max(1, round(seconds))))
