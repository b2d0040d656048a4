"""What a training step reads: micro-batches whose gradients add up to the step's."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from scipy import sparse
from torch import Tensor

from xtrimogene.config import PretrainConfig
from xtrimogene.data.cell_store import CellStore
from xtrimogene.data.masking import MaskedCells, mask_cells
from xtrimogene.data.movable import Movable
from xtrimogene.data.read_depth import downsample_counts
from xtrimogene.data.token_runs import token_runs


@dataclass(frozen=True, slots=True)
class MicroBatch(Movable):
    """Cells of one forward and backward pass; the first ``num_decoded`` of them pass the gene decoder.

    ``study`` is the gene panel of each cell in the store; ``seed`` is that of dropout and noise.
    """

    cells: MaskedCells
    study: Int64[Tensor, "B"]
    num_decoded: int
    seed: int

    @property
    def num_cells(self) -> int:
        return self.cells.visible.num_cells

    @property
    def num_targets(self) -> int:
        """Hidden genes of the decoded cells."""
        return sum(self.cells.hidden.segments.lengths[: self.num_decoded])

    def split(self, max_cells: int, max_tokens: int | None = None) -> list["MicroBatch"]:
        """Return micro-batches of at most so many cells and, but for a longer cell alone, visible genes."""
        runs = token_runs(self.cells.visible.segments.lengths, max_tokens, most_items=max_cells)
        return [self] if len(runs) < 2 else [self._between(run.start, run.stop) for run in runs]

    def _between(self, start: int, stop: int) -> "MicroBatch":
        num_decoded = min(max(self.num_decoded - start, 0), stop - start)
        return MicroBatch(self.cells.between(start, stop), self.study[start:stop], num_decoded, self.seed + start)


def micro_batch(
    counts: sparse.csr_matrix,
    rows: Int64[np.ndarray, "B"],
    store: CellStore,
    config: PretrainConfig,
    *,
    step: int,
    lane: int,
) -> MicroBatch:
    """Thin and mask a lane's cells of a step, as a function of the seed, the step and the lane.

    Parameters
    ----------
    counts, rows
        The cells, and their places in ``store``.
    """
    generator = np.random.default_rng((config.seed, 2, step, lane))
    study = store.panel[rows]
    here, panel = np.unique(study, return_inverse=True)
    inputs = downsample_counts(counts, config.read_depth, generator)
    cells = mask_cells(
        inputs, counts, config.masking, generator, measured=store.measured[here], panel=panel.astype(np.int64)
    )
    num_decoded = math.ceil(config.decoder_share * len(rows))
    return MicroBatch(cells, torch.from_numpy(study), num_decoded, int(generator.integers(2**62)))
