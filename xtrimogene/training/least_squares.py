"""Fit the decoder's head to what the rest of a fresh network tells of hidden genes, so that no steps are spent on it.

Letters: M hidden genes, E decoder width.
"""

import numpy as np
import torch

from xtrimogene.config import MaskingConfig
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.data.masking import mask_cells
from xtrimogene.model.xtrimogene import XTrimoGene

NUM_CELLS = 64
CELLS_AT_ONCE = 4
RIDGE = 1e-3  # of the mean square of a column


@torch.no_grad()
def fit_head(network: XTrimoGene, cells: CellsInMemory, masking: MaskingConfig, seed: int) -> None:
    """Set the head to the ridge regression of hidden values on the decoder's output, over some masked cells."""
    generator = np.random.default_rng((seed, 3))
    chosen = generator.choice(len(cells.panel), min(NUM_CELLS, len(cells.panel)), replace=False)
    columns, targets = [], []
    for rows in np.array_split(chosen, -(-len(chosen) // CELLS_AT_ONCE)):
        raw = cells.counts[rows]
        batch = mask_cells(raw, raw, masking, generator, measured=cells.measured, panel=cells.panel[rows])
        columns.append(network.decode_hidden(batch).double())  # (M, E)
        targets.append(batch.targets.double())
    x, y = torch.cat(columns), torch.cat(targets)
    if len(y) == 0:
        return
    x_mean, y_mean = x.mean(0), y.mean()
    x, y = x - x_mean, y - y_mean
    products = x.T @ x  # (E, E)
    products.diagonal().add_(RIDGE * products.diagonal().mean().clamp(min=1e-12))
    weight = torch.linalg.solve(products, x.T @ y)  # (E,)
    network.head.weight.copy_(weight[None])
    network.head.bias.copy_(y_mean - weight @ x_mean)
