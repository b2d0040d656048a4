"""What fine-tuning reads: labelled cells, in batches, as the layers below those that are trained leave them.

Letters: A cells; J of them judged; B of a batch; G genes; N tokens of a batch, D wide; L labels; R batches of origin;
P width of a cell's vector.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix, diags
from torch import Tensor

from xtrimogene.config import FineTuneConfig, ReadDepthConfig, uses_bfloat16
from xtrimogene.data.packed_cells import PackedCells, pack_cells
from xtrimogene.data.read_depth import ReadDepth, downsample_counts
from xtrimogene.data.token_runs import token_runs
from xtrimogene.model.xtrimogene import XTrimoGene


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledCells:
    """Cells to learn from, each with a label, a fold and, where batches are to look alike, a batch, by number.

    ``vectors`` are what the network makes of the cells before it is tuned; ``judged`` are those answered while it is.
    """

    counts: csr_matrix  # A x G
    vectors: Float[np.ndarray, "A P"]
    label: Int[np.ndarray, " A"]
    fold: Int[np.ndarray, " A"]
    judged: Int[np.ndarray, " J"]
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
    """Cells in batches, on the network's device: thinned to train on, labels in turn; else those judged, by length.

    What the layers below make of the judged cells is kept from epoch to epoch, 4 D bytes for each of their genes.
    """

    def __init__(
        self, network: XTrimoGene, cells: LabelledCells, config: FineTuneConfig, depth: ReadDepth, *, training: bool
    ) -> None:
        self.network, self.counts, self.config, self.depth = network, cells.counts, config, depth
        self.lengths = np.diff(cells.counts.indptr)
        self.random = np.random.default_rng(config.seed) if training else None
        if self.random is not None:
            self.steps = self._steps(in_turn(cells.label, self.random))
        else:
            by_length = cells.judged[np.argsort(self.lengths[cells.judged], kind="stable")]
            self.judged = [by_length[run] for run in token_runs(self.lengths[by_length], config.step_tokens)]
            self.read: list[LabelledBatch] = []
        self.device = next(network.parameters()).device
        in_bfloat16 = uses_bfloat16(config.precision, accelerator=self.device.type == "cuda")
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=in_bfloat16)

    def __len__(self) -> int:
        return len(self.judged) if self.random is None else self.config.steps_per_epoch

    def __iter__(self) -> Iterator[LabelledBatch]:
        if self.random is not None:
            return map(self._read, islice(self.steps, len(self)))
        self.read = self.read or [self._read(rows) for rows in self.judged]
        return iter(self.read)

    def _steps(self, rows: Iterator[int]) -> Iterator[Int[np.ndarray, " B"]]:
        """Yield the cells of each step: as many of these as fit."""
        step: list[int] = []
        tokens = 0
        for row in rows:
            if step and tokens + self.lengths[row] > self.config.step_tokens:
                yield np.array(step)
                step, tokens = [], 0
            step.append(row)
            tokens += self.lengths[row]

    def _read(self, rows: Int[np.ndarray, " B"]) -> LabelledBatch:
        counts = self.counts[rows]
        if self.random is not None:
            counts = thin(counts, self.config.read_depth, self.random)
        packed = pack_cells(counts)
        packed = self.network.append_read_depth(packed, *self.depth.tokens(packed.totals)).to(self.device)
        with torch.no_grad(), self.autocast:
            return LabelledBatch(rows, packed, self.network.encode_below(packed, self.config.num_layers))


def in_turn(label: Int[np.ndarray, " A"], random: np.random.Generator) -> Iterator[int]:
    """Yield cells for ever: labels in turn, and of a label every cell before any comes again."""
    left: dict[int, list[int]] = {one: [] for one in np.unique(label).tolist()}
    while True:
        for one in random.permutation(list(left)).tolist():
            left[one] = left[one] or random.permutation(np.flatnonzero(label == one)).tolist()
            yield left[one].pop()


def draw_judged(
    lengths: Int[np.ndarray, " A"],
    label: Int[np.ndarray, " A"],
    fold: Int[np.ndarray, " A"],
    most_tokens: int,
    *,
    seed: int,
) -> Int[np.ndarray, " J"]:
    """Return cells of so many tokens, ascending: as many of each label in each fold, or all of it; at least two."""
    rank = np.empty(len(label), dtype=np.int64)
    for one, part in np.unique(np.stack([label, fold], axis=1), axis=0):
        own = np.flatnonzero((label == one) & (fold == part))
        rank[own] = np.random.default_rng(seed).permutation(len(own))
    order = np.lexsort((label, fold, rank))
    kept = (np.cumsum(lengths[order]) <= most_tokens) | (rank[order] < 2)
    return np.sort(order[kept])


def thin(counts: csr_matrix, config: ReadDepthConfig, random: np.random.Generator) -> csr_matrix:
    """Thin cells as pre-training does; fractions are rounded up or down by chance, and a cell keeps a total above 1."""
    whole = np.floor(counts.data + random.random(len(counts.data))).astype(np.float32)
    thinned = downsample_counts(csr_matrix((whole, counts.indices, counts.indptr), counts.shape), config, random)
    kept = np.asarray(thinned.sum(axis=1)).ravel() > 1
    return (diags(kept.astype(np.float32)) @ thinned + diags((~kept).astype(np.float32)) @ counts).tocsr()
