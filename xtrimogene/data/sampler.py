"""Which cells a step reads: a function of the seed and the step alone, so a run's place in its data is one number.

Blocks of neighbouring cells are put in random order, epoch by epoch; that order is cut into lanes of equal length, and
each step takes the next cells of every lane. Devices share out the lanes, so the cells of a step are the same on one
device or on many, and an epoch that began on two may end on one or on four. Within a lane the cells of a buffer of
blocks are shuffled. Every cell comes once in an epoch, or as often as its source weighs; an epoch's cells are dealt out
evenly over its steps, ``batch_size`` or a few less to each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from xtrimogene.config import SamplingConfig
from xtrimogene.errors import ConfigError

Ranges = Int64[np.ndarray, "_ 2"]


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane of an epoch; buffer ``i`` holds ``ranges[bounds[i]:bounds[i + 1]]`` and ends at the lane's ``ends[i]``."""

    ranges: Ranges
    bounds: Int64[np.ndarray, "buffers_1"]
    ends: Int64[np.ndarray, "buffers"]
    key: tuple[int, ...]

    @property
    def num_cells(self) -> int:
        return int(self.ends[-1])

    def buffer_at(self, place: int) -> int:
        """Return the buffer that holds the lane's cell at this place."""
        return int(np.searchsorted(self.ends, place, side="right"))

    def rows(self, buffer: int) -> Ranges:
        """Return the ranges of rows that a buffer holds."""
        return self.ranges[self.bounds[buffer] : self.bounds[buffer + 1]]

    def order(self, buffer: int) -> Int64[np.ndarray, "cells"]:
        """Return the order in which a buffer gives out its cells."""
        ranges = self.rows(buffer)
        return np.random.default_rng((*self.key, buffer)).permutation(int(_sizes(ranges).sum()))


class Sampler:
    """Sources follow each other, their rows numbered through; ``sources`` gives each one's cells and weight.

    Raises
    ------
    ConfigError
        An epoch has fewer cells than there are lanes.
    """

    def __init__(
        self, sources: Sequence[tuple[int, float]], *, batch_size: int, config: SamplingConfig, seed: int
    ) -> None:
        self.sources = tuple(sources)
        self.config = config
        self.seed = seed
        for num_cells, weight in sources:
            if num_cells and not _share(num_cells, weight):
                raise ConfigError(f"A weight of {weight:g} leaves none of {num_cells:,} cells; raise it.")
        self.cells_per_epoch = sum(_share(num_cells, weight) for num_cells, weight in sources)
        if self.cells_per_epoch < config.num_lanes:
            raise ConfigError(
                f"An epoch has {self.cells_per_epoch:,} cells and each of sampling.num_lanes={config.num_lanes} lanes "
                "needs one; lower num_lanes or give more cells."
            )
        most = self.cells_per_epoch // config.num_lanes  # steps that find a cell in every lane
        self.steps_per_epoch = max(1, min(math.ceil(self.cells_per_epoch / batch_size), most))

    def lane(self, epoch: int, lane: int) -> Lane:
        """Return the order in which a lane reads in an epoch."""
        blocks = self._blocks(epoch)
        ends = np.cumsum(_sizes(blocks))
        low, high = (ends[-1] * edge // self.config.num_lanes for edge in (lane, lane + 1))
        first, last = (int(i) for i in np.searchsorted(ends, [low, high - 1], side="right"))
        ranges = blocks[first : last + 1].copy()
        ranges[-1, 1] -= ends[last] - high
        ranges[0, 0] += low - (ends[first] - _sizes(blocks[first : first + 1])[0])
        blocks_at_once = max(1, self.config.buffer_size // (self.config.block_size * self.config.num_lanes))
        bounds = np.append(np.arange(0, len(ranges), blocks_at_once), len(ranges))
        return Lane(ranges, bounds, np.cumsum(_sizes(ranges))[bounds[1:] - 1], (self.seed, 1, epoch, lane))

    def places(self, lane: Lane, step: int) -> tuple[int, int]:
        """Return where in its lane a step begins and ends."""
        place, size = step % self.steps_per_epoch, lane.num_cells
        return size * place // self.steps_per_epoch, size * (place + 1) // self.steps_per_epoch

    def cells_before(self, step: int) -> int:
        """Return how many cells all steps before this one read together."""
        epochs, place = divmod(step, self.steps_per_epoch)
        edges = self.cells_per_epoch * np.arange(self.config.num_lanes + 1) // self.config.num_lanes
        return int(epochs * self.cells_per_epoch + (np.diff(edges) * place // self.steps_per_epoch).sum())

    def _blocks(self, epoch: int) -> Ranges:
        """All blocks of an epoch in their order."""
        generator = np.random.default_rng((self.seed, 0, epoch))
        blocks, first = [], 0
        for num_cells, weight in self.sources:
            starts = first + np.arange(0, num_cells, self.config.block_size)
            own = np.stack([starts, np.minimum(starts + self.config.block_size, first + num_cells)], axis=1)
            blocks += [own] * int(weight)
            rest = _share(num_cells, weight) - int(weight) * num_cells
            if rest:
                blocks.append(_cut(generator.permutation(own), rest))
            first += num_cells
        return generator.permutation(np.concatenate(blocks))


def lanes_of(rank: int, world_size: int, num_lanes: int) -> range:
    """Return the lanes of a process.

    Raises
    ------
    ConfigError
        The processes cannot share the lanes evenly.
    """
    if num_lanes % world_size:
        raise ConfigError(
            f"{world_size} devices cannot share sampling.num_lanes={num_lanes} lanes evenly; use a number of devices "
            "that divides it, or begin a run with other lanes."
        )
    own = num_lanes // world_size
    return range(rank * own, (rank + 1) * own)


def _share(num_cells: int, weight: float) -> int:
    return round(num_cells * weight)


def _cut(blocks: Ranges, num_cells: int) -> Ranges:
    """The first blocks, of so many cells together."""
    ends = np.cumsum(_sizes(blocks))
    last = int(np.searchsorted(ends, num_cells))
    cut = blocks[: last + 1].copy()
    cut[-1, 1] -= ends[last] - num_cells
    return cut


def _sizes(ranges: Ranges) -> Int64[np.ndarray, "_"]:
    return ranges[:, 1] - ranges[:, 0]
