"""Training steps from a cell store: read, thinned and masked anew at every step.

What a step reads is a function of the seed and the step alone, so a run continues exactly where it stopped, on however
many devices.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from xtrimogene.config import PretrainConfig
from xtrimogene.data.cell_store import CellStore
from xtrimogene.data.lane_reader import LaneReader
from xtrimogene.data.sampler import Sampler, lanes_of
from xtrimogene.errors import ConfigError
from xtrimogene.training.micro_batch import MicroBatch, micro_batch

TrainingStep = list[MicroBatch]


class LaneBatches(IterableDataset[MicroBatch]):
    """One micro-batch a lane and step, a step's lanes one after the other; worker processes share out the lanes."""

    def __init__(
        self, store: CellStore, sampler: Sampler, config: PretrainConfig, lanes: range, first_step: int
    ) -> None:
        self.store, self.sampler, self.config, self.lanes, self.first_step = store, sampler, config, lanes, first_step

    def __iter__(self) -> Iterator[MicroBatch]:
        worker = get_worker_info()
        lanes = self.lanes if worker is None else self.lanes[worker.id :: worker.num_workers]
        readers = [LaneReader(self.store, self.sampler, lane) for lane in lanes]
        for step in range(self.first_step, self.config.num_steps):
            for reader in readers:
                counts, rows = reader.read(step)
                yield micro_batch(counts, rows, self.store, self.config, step=step, lane=reader.number)


class StepLoader:
    """The lanes of a step together. Made anew for each process and each sitting."""

    def __init__(self, loader: DataLoader[MicroBatch], lanes_per_step: int) -> None:
        self.loader, self.lanes_per_step = loader, lanes_per_step

    def __iter__(self) -> Iterator[TrainingStep]:
        batches = iter(self.loader)
        for first in batches:
            yield [first, *(next(batches) for _ in range(self.lanes_per_step - 1))]


class CellDataModule(LightningDataModule):
    """Feeds each process of the trainer its lanes, from the current step on.

    Parameters
    ----------
    num_workers
        Processes beside each training process that read, thin and mask; the lanes of a training process are shared
        out evenly among them. 0: the training process itself does it.
    """

    def __init__(self, store: CellStore, sampler: Sampler, config: PretrainConfig, *, num_workers: int = 0) -> None:
        super().__init__()
        self.store, self.sampler, self.config, self.num_workers = store, sampler, config, num_workers

    def train_dataloader(self) -> StepLoader:
        assert self.trainer is not None
        lanes = lanes_of(self.trainer.global_rank, self.trainer.world_size, self.config.sampling.num_lanes)
        batches = LaneBatches(self.store, self.sampler, self.config, lanes, self.trainer.global_step)
        on_cuda = self.trainer.strategy.root_device.type == "cuda"
        loader = DataLoader(batches, batch_size=None, num_workers=self.num_workers, pin_memory=on_cuda)
        return StepLoader(loader, len(lanes))

    def transfer_batch_to_device(self, batch: TrainingStep, device: torch.device, dataloader_idx: int) -> TrainingStep:
        return [part.to(device, non_blocking=True) for part in batch]

    def state_dict(self) -> dict[str, Any]:
        return {"cells": self._fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse to go on with other cells.

        Raises
        ------
        ConfigError
            The files hold other cells than when the checkpoint was written.
        """
        if state["cells"] != self._fingerprint():
            raise ConfigError(
                "The files hold other cells than when this run began, so it cannot go on exactly; bring the files "
                "back, or begin a run with another output."
            )

    def _fingerprint(self) -> str:
        cells = hashlib.sha256(self.store.panel.tobytes())
        cells.update(repr(self.store.sources).encode())
        return cells.hexdigest()
