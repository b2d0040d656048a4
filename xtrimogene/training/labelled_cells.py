"""What fine-tuning reads: labelled cells, in batches, as the layers below those that are trained leave them.

Letters: A cells; B of a batch; G genes; N tokens of a batch, D wide; L labels; R batches of origin; P width of a cell's
vector.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix, diags
from torch import Tensor

from xtrimogene.config import FineTuneConfig, ReadDepthConfig, uses_bfloat16
from xtrimogene.data.packed_cells import PackedCells, pack_cells
from xtrimogene.data.read_depth import ReadDepth, downsample_counts
from xtrimogene.model.xtrimogene import XTrimoGene


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledCells:
    """Cells to learn from, each with a label, a fold and, where batches are to look alike, a batch, by number.

    ``vectors`` are what the network makes of the cells before it is tuned.
    """

    counts: csr_matrix  # A x G
    vectors: Float[np.ndarray, "A P"]
    label: Int[np.ndarray, " A"]
    fold: Int[np.ndarray, " A"]
    batch: Int[np.ndarray, " A"] | None = None

    def taught(self, number: int) -> Bool[np.ndarray, " A"]:
        """Say which cells learner ``number`` learns from: all but its fold's, the last from all."""
        return self.fold != number

    def means(self, number: int, num_labels: int) -> Float[np.ndarray, "L R P"]:
        """Return the mean vector of each label in each batch that learner ``number`` learns from, NaN of none."""
        num_batches = 0 if self.batch is None else int(self.batch.max()) + 1
        means = np.full((num_labels, num_batches, self.vectors.shape[1]), np.nan)
        for label, batch in np.ndindex(num_labels, num_batches):
            rows = self.taught(number) & (self.label == label) & (self.batch == batch)
            if rows.any():
                means[label, batch] = self.vectors[rows].mean(axis=0)
        return means


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """Rows of the matrix, the cells packed from them, and what the layers below the tails make of these."""

    rows: Int[np.ndarray, " B"]
    packed: PackedCells
    tokens: Float[Tensor, "N D"]

    def where(self, chosen: Bool[np.ndarray, " B"]) -> "LabelledBatch":
        """Return the cells chosen."""
        rows = self.packed.rows_of(chosen)
        return LabelledBatch(self.rows[chosen], self.packed.where(chosen), self.tokens[rows])


class CellBatches:
    """Cells in batches, on the network's device: for training shuffled and thinned anew each time, else by length."""

    def __init__(
        self, network: XTrimoGene, cells: LabelledCells, config: FineTuneConfig, depth: ReadDepth, *, training: bool
    ) -> None:
        self.network, self.counts, self.config, self.depth = network, cells.counts, config, depth
        self.random = np.random.default_rng(config.seed) if training else None
        self.num_passes = -(-config.cells_per_epoch // len(cells.label)) if training else 1
        self.device = next(network.parameters()).device
        in_bfloat16 = uses_bfloat16(config.precision, accelerator=self.device.type == "cuda")
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=in_bfloat16)

    def __len__(self) -> int:
        return self.num_passes * -(-self.counts.shape[0] // self.config.batch_size)

    def __iter__(self) -> Iterator[LabelledBatch]:
        number, size = self.counts.shape[0], self.config.batch_size
        for _ in range(self.num_passes):
            by_length = np.argsort(np.diff(self.counts.indptr), kind="stable")
            order = by_length if self.random is None else self.random.permutation(number)
            for start in range(0, number, size):
                yield self._read(order[start : start + size])

    def _read(self, rows: Int[np.ndarray, " B"]) -> LabelledBatch:
        counts = self.counts[rows]
        if self.random is not None:
            counts = thin(counts, self.config.read_depth, self.random)
        packed = pack_cells(counts)
        packed = self.network.append_read_depth(packed, *self.depth.tokens(packed.totals)).to(self.device)
        with torch.no_grad(), self.autocast:
            return LabelledBatch(rows, packed, self.network.encode_below(packed, self.config.num_layers))


def thin(counts: csr_matrix, config: ReadDepthConfig, random: np.random.Generator) -> csr_matrix:
    """Thin cells as pre-training does; fractions are rounded up or down by chance, and a cell keeps a total above 1."""
    whole = np.floor(counts.data + random.random(len(counts.data))).astype(np.float32)
    thinned = downsample_counts(csr_matrix((whole, counts.indices, counts.indptr), counts.shape), config, random)
    kept = np.asarray(thinned.sum(axis=1)).ravel() > 1
    return (diags(kept.astype(np.float32)) @ thinned + diags((~kept).astype(np.float32)) @ counts).tocsr()
