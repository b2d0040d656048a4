"""Training batches from AnnData files: cells read once, kept sparse, masked anew at every step.

What a step sees is a function of (seed, step) alone, so a run continues exactly where it stopped. First cut: all cells
are held in memory as one CSR matrix over the model's genes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from lightning import LightningDataModule
from scipy import sparse
from torch.utils.data import DataLoader, IterableDataset

from xtrimogene.config import PretrainConfig
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.gene_panels import panels_of_batches
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.masking import MaskedCells, mask_cells
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.data.read_depth import downsample_counts
from xtrimogene.errors import CountsError


@dataclass(frozen=True, slots=True)
class TrainingCells:
    """Cells of several files over one gene list; a study is a file, or a batch of a file that joins several.

    ``sources`` says, file by file, what was read.
    """

    counts: sparse.csr_matrix
    measured: Bool[np.ndarray, "R G"]
    panel: Int64[np.ndarray, "B"]
    sources: tuple[dict[str, Any], ...]


def read_training_cells(
    files: Sequence[str | Path],
    genes: GeneVocabulary,
    *,
    min_genes: int,
    joined_by: Mapping[str, str] = MappingProxyType({}),
) -> TrainingCells:
    """Read files (.h5ad, .zarr) whose values are counts; cells with fewer than ``min_genes`` genes are left out.

    Parameters
    ----------
    joined_by
        For a file that joins batches with other genes each: the column of obs that names the batch.

    Raises
    ------
    CountsError
        A file without counts, or no cell left.
    GeneMatchError
        A file whose genes are not the vocabulary's.
    FieldError
        A column of ``joined_by`` that the file lacks.
    """
    matrices, measured, panels, sources, num_panels = [], [], [], [], 0
    for file in files:
        with open_cells(file) as cells:
            matched = MatchedCounts.find(cells, genes)
            matrix = matched.all()
            matched.match.require(matched.counts_per_column)
            key = joined_by.get(str(file))
            batches = np.zeros(matrix.shape[0]) if key is None else cells.obs_column(key)
        kept = np.diff(matrix.indptr) >= min_genes
        own_measured, own_panel = matched.match.measured[None], np.zeros(int(kept.sum()), dtype=np.int64)
        if key is not None:
            own_measured, own_panel = panels_of_batches([(0, matrix[kept])], matched.match.measured, batches[kept])
        panels.append(own_panel + num_panels)
        num_panels += len(own_measured)
        matrices.append(matrix[kept])
        measured.append(own_measured)
        source = {"file": Path(file).name, "cells": int(kept.sum()), "cells_left_out": int((~kept).sum())}
        sources.append(source if key is None else {**source, "joined_by": key, "batches": len(own_measured)})
    counts = sparse.vstack(matrices, format="csr")
    if counts.shape[0] == 0:
        raise CountsError(f"No cell has {min_genes} expressed genes; lower min_genes or give other files.")
    return TrainingCells(counts, np.concatenate(measured), np.concatenate(panels), tuple(sources))


class TrainingBatches(IterableDataset[MaskedCells]):
    """Batches from step ``first_step`` on; each epoch is a fresh permutation, each cell once."""

    def __init__(self, cells: TrainingCells, config: PretrainConfig, first_step: int) -> None:
        self.cells = cells
        self.config = config
        self.first_step = first_step

    def __iter__(self) -> Iterator[MaskedCells]:
        for step in range(self.first_step, self.config.num_steps):
            yield training_batch(self.cells, self.config, step)


def training_batch(cells: TrainingCells, config: PretrainConfig, step: int) -> MaskedCells:
    """Return the batch of this step: a function of the seed and the step alone."""
    rows = batch_rows(cells.counts.shape[0], config.batch_size, step, config.seed)
    generator = np.random.default_rng((config.seed, 1, step))
    raw = cells.counts[rows]
    inputs = downsample_counts(raw, config.read_depth, generator)
    return mask_cells(inputs, raw, config.masking, generator, measured=cells.measured, panel=cells.panel[rows])


def batch_rows(num_cells: int, batch_size: int, step: int, seed: int) -> Int64[np.ndarray, "b"]:
    """Rows of a step in an endless sequence of permutations of all cells."""
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    rows = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(places // num_cells):
        here = places // num_cells == epoch
        rows[here] = np.random.default_rng((seed, 0, int(epoch))).permutation(num_cells)[places[here] % num_cells]
    return rows


class CellDataModule(LightningDataModule):
    """Feeds the trainer from its current step on, also after a resume."""

    def __init__(self, cells: TrainingCells, config: PretrainConfig) -> None:
        super().__init__()
        self.cells = cells
        self.config = config

    def train_dataloader(self) -> DataLoader[MaskedCells]:
        assert self.trainer is not None
        return DataLoader(TrainingBatches(self.cells, self.config, self.trainer.global_step), batch_size=None)

    def transfer_batch_to_device(self, batch: MaskedCells, device: torch.device, dataloader_idx: int) -> MaskedCells:
        return batch.to(device, non_blocking=True)
