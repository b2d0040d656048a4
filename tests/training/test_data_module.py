"""What reaches the trainer: a step's lanes together, the same ones whoever reads them."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from xtrimogene.config import PretrainConfig, SamplingConfig, StoreConfig
from xtrimogene.data.cell_store import CellStore, join, open_stores
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.sampler import Sampler, lanes_of
from xtrimogene.data.store_builder import build_store
from xtrimogene.errors import ConfigError
from xtrimogene.training.data_module import CellDataModule, LaneBatches, StepLoader, TrainingStep

HUMAN = GeneVocabulary.human()
SAMPLING = SamplingConfig(num_lanes=4, block_size=8, buffer_size=64)


@pytest.fixture(params=["memory", "files", "store"])
def store(request: pytest.FixtureRequest, tmp_path: Path, write_cells: Callable[..., str]) -> CellStore:
    files = tuple(write_cells(tmp_path / f"{name}.h5ad", 50, seed) for seed, name in enumerate("ab"))
    if request.param == "store":
        files = (str(build_store(StoreConfig(files=files, output=str(tmp_path / "cells.zarr")), progress=False)),)
    return join(open_stores(files, HUMAN, min_genes=200, in_memory=request.param == "memory"))


def steps(store: CellStore, *, lanes: range = range(4), first_step: int = 0, workers: int = 0) -> list[TrainingStep]:
    config = PretrainConfig(files=("a",), output="b", batch_size=12, num_steps=10, sampling=SAMPLING)
    sampler = Sampler([(len(store.panel), 1.0)], batch_size=12, config=SAMPLING, seed=0)
    batches = LaneBatches(store, sampler, config, lanes, first_step)
    return list(StepLoader(DataLoader(batches, batch_size=None, num_workers=workers), len(lanes)))


def same(one: TrainingStep, other: TrainingStep) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(
        torch.equal(a.cells.raw.gene_ids, b.cells.raw.gene_ids)
        and torch.equal(a.cells.targets, b.cells.targets)
        and torch.equal(a.study, b.study)
        and a.seed == b.seed
        for a, b in pairs
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing(store: CellStore, workers: int) -> None:
    alone, shared = steps(store), steps(store, workers=workers)
    assert len(alone) == len(shared) == 10 and all(len(step) == 4 for step in shared)
    assert all(same(one, other) for one, other in zip(alone, shared, strict=True))


def test_devices_share_out_the_lanes_of_a_step(store: CellStore) -> None:
    whole = steps(store)
    for world_size in (2, 4):
        parts = [steps(store, lanes=lanes_of(rank, world_size, 4)) for rank in range(world_size)]
        for step, own in zip(whole, zip(*parts, strict=True), strict=True):
            assert same(step, [batch for part in own for batch in part])


def test_a_later_sitting_begins_where_it_is_told(store: CellStore) -> None:
    assert all(same(one, other) for one, other in zip(steps(store)[7:], steps(store, first_step=7), strict=True))


def data_module(store: CellStore, device: str, workers: int = 0) -> CellDataModule:
    """A module of a trainer whose batches go to this device."""
    config = PretrainConfig(files=("a",), output="b", batch_size=12, num_steps=2, sampling=SAMPLING)
    sampler = Sampler([(len(store.panel), 1.0)], batch_size=12, config=SAMPLING, seed=0)
    data = CellDataModule(store, sampler, config, num_workers=workers)
    strategy = SimpleNamespace(root_device=torch.device(device))
    data.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1, global_step=0)
    return data


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_batches_are_pinned_for_a_gpu_alone(store: CellStore, device: str) -> None:
    assert data_module(store, device).train_dataloader().loader.pin_memory == (device != "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_arrive_pinned(store: CellStore, workers: int) -> None:
    (first, *_), *_ = data_module(store, "cuda:0", workers).train_dataloader()
    assert first.study.is_pinned() and first.cells.targets.is_pinned()
    assert first.cells.visible.values.is_pinned() and first.cells.hidden.segments.cu_seqlens.is_pinned()


def test_lanes_that_cannot_be_shared_evenly_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 devices cannot share sampling.num_lanes=8 lanes evenly"):
        lanes_of(0, 3, 8)
