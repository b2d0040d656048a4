"""Hide part of a cell: which genes the encoder does not see, what the decoder reads there, and what it should say.

No masked gene enters the encoder. Strata are the zero and non-zero MEASURED genes of the (thinned) input; targets are
the values of the cell as it was sequenced. Letters: B cells, M hidden genes of all cells together, G genes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from scipy import sparse
from torch import Tensor

from xtrimogene.config import MaskingConfig
from xtrimogene.data.movable import Movable
from xtrimogene.data.packed_cells import COUNTS_PER_CELL, PackedCells, pack_cells
from xtrimogene_kernels.segments import Segments


@dataclass(frozen=True, slots=True)
class HiddenGenes(Movable):
    """Genes the encoder does not see, cell after cell, sorted; ``shown`` is NaN where the decoder reads the mask."""

    gene_ids: Int64[Tensor, "M"]
    shown: Float32[Tensor, "M"]
    segments: Segments

    def between(self, start: int, stop: int) -> "HiddenGenes":
        """Return cells ``start`` to ``stop`` of the batch."""
        rows = self.segments.rows_between(start, stop)
        return HiddenGenes(self.gene_ids[rows], self.shown[rows], self.segments.between(start, stop))


@dataclass(frozen=True, slots=True)
class MaskedCells(Movable):
    """A training batch: what the encoder sees, what is hidden with its true values, and the cells as sequenced.

    ``visible.totals`` are the input's totals (S), ``raw.totals`` those of the cells as sequenced (T).
    """

    visible: PackedCells
    hidden: HiddenGenes
    targets: Float32[Tensor, "M"]
    raw: PackedCells

    def between(self, start: int, stop: int) -> "MaskedCells":
        """Return cells ``start`` to ``stop`` of the batch."""
        return MaskedCells(
            self.visible.between(start, stop),
            self.hidden.between(start, stop),
            self.targets[self.hidden.segments.rows_between(start, stop)],
            self.raw.between(start, stop),
        )


def mask_cells(
    inputs: sparse.csr_matrix,
    raw: sparse.csr_matrix,
    config: MaskingConfig,
    generator: np.random.Generator,
    *,
    measured: Bool[np.ndarray, "R G"],
    panel: Int64[np.ndarray, "B"],
) -> MaskedCells:
    """Mask a batch.

    Parameters
    ----------
    inputs
        Cells x genes, the counts the encoder may read (thinned, or the raw ones).
    raw
        The same cells as sequenced; the targets are their values.
    measured, panel
        Which genes were measured; an unmeasured gene is never hidden and never a target.
    """
    num_cells, num_genes = inputs.shape
    packed = pack_cells(inputs, measured=measured, panel=panel)
    masked = _masked_nonzeros(inputs.indptr, config, generator)
    rows = np.repeat(np.arange(num_cells), np.diff(inputs.indptr))
    keys = rows * num_genes + inputs.indices
    zero_keys = _sample_zeros(keys, num_cells, num_genes, config.zero_fraction, generator)
    zero_keys = zero_keys[measured[panel[zero_keys // num_genes], zero_keys % num_genes]]

    hidden_keys = np.concatenate([keys[masked], zero_keys])
    true_values = np.concatenate([packed.values.numpy()[masked], np.zeros(len(zero_keys), dtype=np.float32)])
    order = np.argsort(hidden_keys, kind="stable")
    hidden_keys, true_values = hidden_keys[order], true_values[order]
    hidden_rows = hidden_keys // num_genes
    shown = _shown_values(true_values, hidden_rows, packed, config, generator)

    visible = ~masked
    visible_lengths = np.bincount(rows[visible], minlength=num_cells)
    return MaskedCells(
        visible=PackedCells(
            gene_ids=packed.gene_ids[torch.from_numpy(visible)],
            values=packed.values[torch.from_numpy(visible)],
            segments=Segments.from_lengths(visible_lengths.tolist()),
            totals=packed.totals,
            measured=packed.measured,
            panel=packed.panel,
        ),
        hidden=HiddenGenes(
            gene_ids=torch.from_numpy(hidden_keys % num_genes),
            shown=torch.from_numpy(shown),
            segments=Segments.from_lengths(np.bincount(hidden_rows, minlength=num_cells).tolist()),
        ),
        targets=torch.from_numpy(_raw_values(raw, hidden_keys)),
        raw=pack_cells(raw, measured=measured, panel=panel),
    )


def _masked_nonzeros(
    indptr: np.ndarray, config: MaskingConfig, generator: np.random.Generator
) -> Bool[np.ndarray, "N"]:
    draws = generator.random(indptr[-1])
    masked = draws < config.nonzero_fraction
    for start, stop in zip(indptr[:-1], indptr[1:], strict=True):
        cell = draws[start:stop]
        if config.max_visible is not None and len(cell) > config.max_visible:
            surplus = len(cell) - config.max_visible
            masked[start:stop] |= cell <= np.partition(cell, surplus - 1)[surplus - 1]
        masked[start + int(cell.argmax())] = False  # the encoder always has something to read
    return masked


def _sample_zeros(
    nonzero_keys: np.ndarray, num_cells: int, num_genes: int, fraction: float, generator: np.random.Generator
) -> Int64[np.ndarray, "Z"]:
    """Each zero of the batch with this probability, by geometric gaps: the cost is in the hits alone."""
    size = num_cells * num_genes
    if fraction == 0.0 or size == 0:
        return np.zeros(0, dtype=np.int64)
    expected = int(size * fraction)
    hits = np.cumsum(generator.geometric(fraction, size=expected + 10 * int(expected**0.5) + 10)) - 1
    while hits[-1] < size:
        hits = np.concatenate([hits, hits[-1] + np.cumsum(generator.geometric(fraction, size=1024))])
    hits = hits[hits < size].astype(np.int64)
    found = np.searchsorted(nonzero_keys, hits)
    is_nonzero = nonzero_keys[np.minimum(found, len(nonzero_keys) - 1)] == hits
    return hits[~is_nonzero]


def _shown_values(
    true_values: np.ndarray,
    rows: np.ndarray,
    packed: PackedCells,
    config: MaskingConfig,
    generator: np.random.Generator,
) -> Float32[np.ndarray, "M"]:
    shown = true_values.copy()
    draws = generator.random(len(shown))
    starts = packed.segments.cu_seqlens.numpy()[rows]
    lengths = np.asarray(packed.segments.lengths)[rows]
    picks = starts + (generator.random(len(shown)) * lengths).astype(np.int64)
    random = draws < config.replace_fraction + config.random_fraction
    shown[random] = packed.values.numpy()[picks[random]]
    shown[draws < config.replace_fraction] = np.nan
    return shown


def _raw_values(raw: sparse.csr_matrix, keys: np.ndarray) -> Float32[np.ndarray, "M"]:
    num_cells, num_genes = raw.shape
    raw_keys = np.repeat(np.arange(num_cells), np.diff(raw.indptr)) * num_genes + raw.indices
    found = np.minimum(np.searchsorted(raw_keys, keys), len(raw_keys) - 1)
    totals = np.asarray(raw.sum(axis=1), dtype=np.float64).ravel()
    counts = np.where(raw_keys[found] == keys, raw.data[found], 0.0)
    return np.log1p(counts * (COUNTS_PER_CELL / totals[keys // num_genes])).astype(np.float32)
