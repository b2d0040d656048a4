"""The decoder's head, fitted to what the rest of a fresh network tells of hidden genes: no steps are spent on that.

Letters: M hidden genes, E decoder width.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from xtrimogene.config import MaskingConfig
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.data.masking import mask_cells
from xtrimogene.model.xtrimogene import XTrimoGene

NUM_CELLS = 64
CELLS_AT_ONCE = 4
RIDGE = 1e-3  # of the mean square of a column


@torch.no_grad()
def decode_some_cells(
    network: XTrimoGene, cells: CellsInMemory, masking: MaskingConfig, seed: int
) -> tuple[Float[Tensor, "M E"], Float[Tensor, "M"]]:
    """Return the decoder's output at the hidden genes of some masked cells, without dropout, and the values there."""
    generator = np.random.default_rng((seed, 3))
    chosen = generator.choice(len(cells.panel), min(NUM_CELLS, len(cells.panel)), replace=False)
    genes, targets = [], []
    mode = network.training
    network.eval()
    for rows in np.array_split(chosen, -(-len(chosen) // CELLS_AT_ONCE)):
        raw = cells.counts[rows]
        batch = mask_cells(raw, raw, masking, generator, measured=cells.measured, panel=cells.panel[rows])
        genes.append(network.decode_hidden(batch))
        targets.append(batch.targets)
    network.train(mode)
    return torch.cat(genes), torch.cat(targets)


@torch.no_grad()
def fit_linear(linear: nn.Linear, x: Float[Tensor, "M E"], y: Float[Tensor, "M"]) -> None:
    """Set a linear layer with one output to the ridge regression of y on x."""
    if len(y) == 0:
        return
    x, y = x.double(), y.double()
    x_mean, y_mean = x.mean(0), y.mean()
    x, y = x - x_mean, y - y_mean
    products = x.T @ x  # (E, E)
    products.diagonal().add_(RIDGE * products.diagonal().mean().clamp(min=1e-12))
    weight = torch.linalg.solve(products, x.T @ y)  # (E,)
    linear.weight.copy_(weight[None])
    linear.bias.copy_(y_mean - weight @ x_mean)
