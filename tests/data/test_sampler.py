"""The order of the cells: each once an epoch, whatever the number of devices, found again from the step alone."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrimogene.config import SamplingConfig
from xtrimogene.data.sampler import Sampler
from xtrimogene.errors import ConfigError


def rows_of(sampler: Sampler, step: int, lanes: range | None = None) -> list[int]:
    """The cells of a step, lane after lane."""
    epoch, found = step // sampler.steps_per_epoch, []
    for number in lanes or range(sampler.config.num_lanes):
        lane = sampler.lane(epoch, number)
        place, stop = sampler.places(lane, step)
        order = np.concatenate(
            [
                np.concatenate([np.arange(*rows) for rows in lane.rows(buffer)])[lane.order(buffer)]
                for buffer in range(len(lane.ends))
            ]
        )
        found += order[place:stop].tolist()
    return found


@dataclass(frozen=True)
class Settings:
    sizes: tuple[int, ...]
    num_lanes: int
    block_size: int
    buffer_size: int
    more_than_lanes: int
    seed: int

    def sampler(self) -> Sampler:
        config = SamplingConfig(num_lanes=self.num_lanes, block_size=self.block_size, buffer_size=self.buffer_size)
        sources = [(size, 1.0) for size in self.sizes]
        return Sampler(sources, batch_size=self.num_lanes + self.more_than_lanes, config=config, seed=self.seed)


drawn = st.builds(
    Settings,
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4).map(tuple),
    num_lanes=st.integers(1, 6),
    block_size=st.integers(1, 9),
    buffer_size=st.integers(1, 60),
    more_than_lanes=st.integers(0, 50),
    seed=st.integers(0, 9),
).filter(lambda settings: sum(settings.sizes) >= settings.num_lanes)


@given(drawn, st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_an_epoch_holds_each_cell_once(drawn: Settings, epoch: int) -> None:
    sampler = drawn.sampler()
    steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
    batches = [rows_of(sampler, step) for step in steps]
    num_cells = sum(size for size, _ in sampler.sources)
    assert sorted(row for batch in batches for row in batch) == list(range(num_cells))
    assert sampler.cells_before(steps.stop) - sampler.cells_before(steps.start) == num_cells
    assert [sampler.cells_before(step + 1) - sampler.cells_before(step) for step in steps] == list(map(len, batches))


@given(drawn)
@settings(max_examples=100, deadline=None)
def test_every_lane_gives_about_as_many_cells_to_every_step(drawn: Settings) -> None:
    sampler = drawn.sampler()
    for number in range(sampler.config.num_lanes):
        lane = sampler.lane(0, number)
        edges = [sampler.places(lane, step) for step in range(sampler.steps_per_epoch)]
        sizes = [stop - start for start, stop in edges]
        assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1


def test_a_step_has_about_the_cells_that_were_asked_for() -> None:
    sampler = Sampler([(10_007, 1.0)], batch_size=64, config=SamplingConfig(), seed=0)
    assert sampler.steps_per_epoch == 157
    assert {len(rows_of(sampler, step)) for step in range(20)} <= set(range(56, 65))


def test_an_epoch_begun_on_two_devices_ends_on_one_or_four() -> None:
    config = SamplingConfig(num_lanes=4, block_size=8, buffer_size=64)
    sampler = Sampler([(301, 1.0), (99, 1.0)], batch_size=16, config=config, seed=3)
    read = []
    for num_devices, steps in ((2, range(7)), (1, range(7, 13)), (4, range(13, sampler.steps_per_epoch))):
        own = config.num_lanes // num_devices
        for step in steps:
            for rank in range(num_devices):
                read += rows_of(sampler, step, range(rank * own, (rank + 1) * own))
    assert sorted(read) == list(range(400))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def epoch(number: int, seed: int) -> list[int]:
        sampler = Sampler([(200, 1.0)], batch_size=20, config=SamplingConfig(block_size=10), seed=seed)
        steps = range(number * sampler.steps_per_epoch, (number + 1) * sampler.steps_per_epoch)
        return [row for step in steps for row in rows_of(sampler, step)]

    assert epoch(0, seed=1) == epoch(0, seed=1)
    assert len({tuple(epoch(number, seed)) for number in range(3) for seed in range(2)}) == 6


def test_a_batch_mixes_blocks_from_everywhere() -> None:
    """Sources are sorted by kind in a file: a batch that followed the file would hold one kind alone."""
    config = SamplingConfig(num_lanes=4, block_size=16, buffer_size=16 * 32)
    sampler = Sampler([(16 * 512, 1.0)], batch_size=128, config=config, seed=0)
    blocks = [len({row // 16 for row in rows_of(sampler, step)}) for step in range(0, 64, 7)]
    assert min(blocks) > 24  # of the 32 in memory
    mean_place = [np.mean(rows_of(sampler, step)) / (16 * 512) for step in range(0, 64, 7)]
    assert np.std(mean_place) < 0.1


@pytest.mark.parametrize("weight", [0.25, 0.5, 1.0, 2.0, 2.75])
def test_a_source_is_read_as_often_as_it_weighs(weight: float) -> None:
    config = SamplingConfig(num_lanes=2, block_size=8)
    sampler = Sampler([(100, 1.0), (60, weight)], batch_size=10, config=config, seed=0)
    for epoch in range(3):
        steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
        rows, times = np.unique([row for step in steps for row in rows_of(sampler, step)], return_counts=True)
        assert (times[rows < 100] == 1).all() and (rows < 100).sum() == 100
        assert times[rows >= 100].sum() == round(60 * weight)
        assert set(times[rows >= 100].tolist()) <= {int(weight), int(weight) + 1}


def test_a_fraction_of_a_source_is_another_one_each_epoch() -> None:
    sampler = Sampler([(400, 0.25)], batch_size=10, config=SamplingConfig(num_lanes=1, block_size=8), seed=0)
    epochs = [{row for step in range(e * 10, e * 10 + 10) for row in rows_of(sampler, step)} for e in range(4)]
    assert sampler.steps_per_epoch == 10 and all(len(epoch) == 100 for epoch in epochs)
    assert len(set.union(*epochs)) > 200


def test_fewer_cells_than_lanes_are_refused() -> None:
    with pytest.raises(ConfigError, match="An epoch has 7 cells and each of sampling.num_lanes=8 lanes needs one"):
        Sampler([(7, 1.0)], batch_size=8, config=SamplingConfig(), seed=0)


def test_a_weight_that_leaves_no_cell_is_refused() -> None:
    with pytest.raises(ConfigError, match="A weight of 0.0004 leaves none of 1,000 cells"):
        Sampler([(1000, 1.0), (1000, 0.0004)], batch_size=8, config=SamplingConfig(), seed=0)


def test_each_buffer_is_shuffled_in_a_way_of_its_own() -> None:
    config = SamplingConfig(num_lanes=2, block_size=8, buffer_size=64)
    orders = []
    for seed in range(2):
        sampler = Sampler([(256, 1.0)], batch_size=16, config=config, seed=seed)
        lanes = [sampler.lane(epoch, lane) for epoch in range(2) for lane in range(2)]
        orders += [tuple(lane.order(buffer).tolist()) for lane in lanes for buffer in range(2)]
    assert len(set(orders)) == len(orders) == 16 and all(sorted(order) == list(range(32)) for order in orders)
