"""Find the direction in which a cell's latent vector moves when its molecules are thinned.

Cells of one kind would else lie apart by how deeply they were read. One direction holds most of that, and nearly the
same one whatever cells it is measured on; more of them hold what cells are, too. It is the direction of cells read at
the model's own ``read_depth``: read at another, they move along another.
Letters: B cells, R rates, L latent width.
"""

import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_warn
from scipy import sparse

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.cell_store import CellStore, sample_cells
from xtrimogene.data.read_depth import thin_counts
from xtrimogene.inference import Inference

NUM_CELLS, CELLS_OF_A_BLOCK = 512, 8
RATES = (1.0, 0.6, 0.3, 0.15)


def find_depth_direction(
    model: PretrainedModel, cells: CellStore, *, seed: int, device: str | None = None
) -> dict[str, float] | None:
    """Set the latent head's direction of read depth from some of these cells, each as likely as another.

    Returns
    -------
    The variance that thinning makes within cells over that between whole cells: "all", of latent vectors as they are,
    and "left", without the direction. None, and no direction, where no cell has counts enough to be thinned.
    """
    head = model.network.latent_head
    assert head is not None
    head.depth_direction.zero_()  # or it would be missing from what is measured
    some = sample_cells(cells, NUM_CELLS, block_size=CELLS_OF_A_BLOCK, seed=seed)
    latent = embed_at_rates(Inference(model, device=device), some.counts, np.random.default_rng((seed, 4)))
    if latent.shape[1] < 2:
        rank_zero_warn("No two cells have counts enough to be thinned: cell vectors keep read depth.")
        return None
    direction = leading_direction(latent)
    head.depth_direction.copy_(torch.from_numpy(direction))
    left = latent - (latent @ direction)[..., None] * direction
    return {"all": thinning_share(latent), "left": thinning_share(left)}


def embed_at_rates(
    model: Inference, counts: sparse.csr_matrix, generator: np.random.Generator
) -> Float[np.ndarray, "R B L"]:
    """Return the latent vectors of cells thinned to each of RATES, of those cells that can be read at all of them."""
    views = [model.cell_embeddings(thin_counts(counts, rate, generator), pool="latent") for rate in RATES]
    latent = np.stack(views).astype(np.float64)
    return latent[:, np.isfinite(latent).all((0, 2))]


def leading_direction(latent: Float[np.ndarray, "R B L"]) -> Float[np.ndarray, "L"]:
    """Return the unit vector along which the views of a cell differ most, whole cells on its positive side."""
    moved = (latent - latent.mean(0)).reshape(-1, latent.shape[-1])
    direction = np.linalg.eigh(moved.T @ moved).eigenvectors[:, -1]
    return direction if (latent[0] - latent[-1]).mean(0) @ direction >= 0 else -direction


def thinning_share(latent: Float[np.ndarray, "R B L"]) -> float:
    """Return the variance within cells over that between whole cells."""
    return float(((latent - latent.mean(0)) ** 2).mean((0, 1)).sum() / latent[0].var(0).sum())
