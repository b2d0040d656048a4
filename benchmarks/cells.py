"""Synthetic cells of real lengths, and the batches that `Inference` and a training step make of cells."""

import numpy as np
import torch
from scipy import sparse

from xtrimogene.config import PretrainConfig
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.data.packed_cells import PackedCells, pack_cells
from xtrimogene.inference import default_token_budget
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.micro_batch import MicroBatch, micro_batch

NUM_GENES = 19_264


def make_counts(num_cells: int, seed: int, num_genes: int = NUM_GENES, median: int = 1_500) -> sparse.csr_matrix:
    """Cells whose numbers of expressed genes are lognormal: median 1,500, between 500 and 4,000."""
    random = np.random.default_rng(seed)
    lengths = median * np.exp(0.45 * random.standard_normal(num_cells))
    lengths = np.clip(lengths, median // 3, 8 * median // 3).astype(int)
    genes = [np.sort(random.choice(num_genes, size=length, replace=False)) for length in lengths]
    values = random.geometric(0.4, size=lengths.sum()).astype(np.float32)
    return sparse.csr_matrix(
        (values, np.concatenate(genes), np.concatenate([[0], np.cumsum(lengths)])), shape=(num_cells, num_genes)
    )


def inference_batches(network: XTrimoGene, counts: sparse.csr_matrix, device: torch.device) -> list[PackedCells]:
    """As `Inference` does it: by length, up to a budget of tokens, T and S appended, on the device."""
    token_budget = default_token_budget(device, network.config.encoder.dim)
    lengths = np.diff(counts.indptr)
    batches, rows, used = [], [], 0
    for row in np.argsort(lengths, kind="stable"):
        if rows and used + lengths[row] > token_budget:
            batches.append(rows)
            rows, used = [], 0
        rows, used = [*rows, row], used + int(lengths[row])
    packed = [pack_cells(counts[rows]) for rows in [*batches, rows]]
    return [network.append_read_depth(some, some.totals.log10(), some.totals.log10()).to(device) for some in packed]


def training_batch(counts: sparse.csr_matrix) -> MicroBatch:
    """All these cells, thinned and masked as `xtrimogene pretrain` does unless told otherwise."""
    num_cells, num_genes = counts.shape
    store = CellsInMemory(counts, np.ones((1, num_genes), dtype=bool), np.zeros(num_cells, dtype=np.int64))
    config = PretrainConfig(files=("none",), output="none")
    return micro_batch(counts, np.arange(num_cells), store, config, step=0, lane=0)
