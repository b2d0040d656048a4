"""Reads the cells of one lane, step after step, a buffer of blocks at a time."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64, Shaped
from scipy import sparse

from xtrimogene.data.cell_store import CellsInMemory, CellStore
from xtrimogene.data.sampler import Lane, Ranges, Sampler


class LaneReader:
    """Steps are read in any order; in their own, each block is read once."""

    def __init__(self, store: CellStore, sampler: Sampler, lane: int) -> None:
        self.store, self.sampler, self.number = store, sampler, lane
        self._lane: tuple[int, Lane] | None = None  # of which epoch
        self._buffer: tuple[tuple[int, int], _Buffer] | None = None  # of which epoch, and which one
        self._room = _Room()

    def read(self, step: int) -> tuple[sparse.csr_matrix, Int64[np.ndarray, "n"]]:
        """Return this lane's cells of a step: their counts and their places in the store."""
        epoch = step // self.sampler.steps_per_epoch
        if self._lane is None or self._lane[0] != epoch:
            self._lane = epoch, self.sampler.lane(epoch, self.number)
        lane = self._lane[1]
        place, stop = self.sampler.places(lane, step)
        parts = []
        while place < stop:
            index = lane.buffer_at(place)
            if self._buffer is None or self._buffer[0] != (epoch, index):
                self._buffer = (epoch, index), _Buffer(self.store, lane.rows(index), lane.order(index), self._room)
            buffer = self._buffer[1]
            first = int(lane.ends[index]) - len(buffer.rows)
            last = min(stop, int(lane.ends[index]))
            parts.append(buffer.take(place - first, last - first))
            place = last
        if len(parts) == 1:
            return parts[0]
        return sparse.vstack([counts for counts, _ in parts], format="csr"), np.concatenate([rows for _, rows in parts])


class _Buffer:
    """The cells of some blocks in a shuffled order; those of a store in memory stay where they are."""

    def __init__(self, store: CellStore, ranges: Ranges, order: Int64[np.ndarray, "cells"], room: "_Room") -> None:
        self.rows = np.concatenate([np.arange(start, stop) for start, stop in ranges])[order]
        if isinstance(store, CellsInMemory):
            self._counts, self._order = store.counts, self.rows
        else:
            blocks = (store.read(int(start), int(stop)) for start, stop in ranges)
            self._counts, self._order = room.lay(blocks), order

    def take(self, start: int, stop: int) -> tuple[sparse.csr_matrix, Int64[np.ndarray, "n"]]:
        return self._counts[self._order[start:stop]], self.rows[start:stop]


class _Room:
    """Where blocks lie end to end, the same memory for one buffer after another: fresh pages cost more than a copy."""

    def __init__(self) -> None:
        self._data, self._indices = np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int32)

    def lay(self, blocks: Iterable[sparse.csr_matrix]) -> sparse.csr_matrix:
        """Return the blocks as one matrix, good until the next call."""
        ends, size, num_columns = [np.zeros(1, dtype=np.int64)], 0, 0
        for block in blocks:
            stop = size + block.nnz
            if stop > len(self._data):
                self._grow(stop)
            self._data[size:stop], self._indices[size:stop] = block.data, block.indices
            ends.append(block.indptr[1:].astype(np.int64) + size)
            size, num_columns = stop, block.shape[1]
        indptr = np.concatenate(ends)
        shape = (len(indptr) - 1, num_columns)
        return sparse.csr_matrix((self._data[:size], self._indices[:size], indptr), shape=shape)

    def _grow(self, size: int) -> None:
        self._data, self._indices = (_longer(array, max(size, 2 * len(array))) for array in (self._data, self._indices))


def _longer(array: Shaped[np.ndarray, "n"], size: int) -> Shaped[np.ndarray, "m"]:
    grown = np.empty(size, dtype=array.dtype)
    grown[: len(array)] = array
    return grown
