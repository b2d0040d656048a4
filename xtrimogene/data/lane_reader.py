"""Reads the cells of one lane, step after step, a buffer of blocks at a time."""

import numpy as np
from jaxtyping import Int64
from scipy import sparse

from xtrimogene.data.cell_store import CellsInMemory, CellStore
from xtrimogene.data.sampler import Lane, Ranges, Sampler


class LaneReader:
    """Steps are read in any order; in their own, each block is read once."""

    def __init__(self, store: CellStore, sampler: Sampler, lane: int) -> None:
        self.store, self.sampler, self.number = store, sampler, lane
        self._lane: tuple[int, Lane] | None = None  # of which epoch
        self._buffer: tuple[tuple[int, int], _Buffer] | None = None  # of which epoch, and which one

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
                self._buffer = (epoch, index), _Buffer(self.store, lane.rows(index), lane.order(index))
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

    def __init__(self, store: CellStore, ranges: Ranges, order: Int64[np.ndarray, "cells"]) -> None:
        self.rows = np.concatenate([np.arange(start, stop) for start, stop in ranges])[order]
        if isinstance(store, CellsInMemory):
            self._counts, self._order = store.counts, self.rows
        else:
            blocks = [store.read(int(start), int(stop)) for start, stop in ranges]
            self._counts, self._order = sparse.vstack(blocks, format="csr"), order

    def take(self, start: int, stop: int) -> tuple[sparse.csr_matrix, Int64[np.ndarray, "n"]]:
        return self._counts[self._order[start:stop]], self.rows[start:stop]
