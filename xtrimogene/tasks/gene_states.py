"""What the decoder says of genes in groups of cells: the mean of their context embeddings, in bounded memory.

Letters: B cells; A genes asked for; G genes of the model; K groups; E decoder width.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32, Int64
from scipy.sparse import csr_matrix

from xtrimogene.errors import CountsError
from xtrimogene.inference import Inference, readable_cells

_BLOCK_BYTES = 64 << 20  # of context embeddings of single cells, made at once


def mean_gene_embeddings(
    inference: Inference,
    counts: csr_matrix,
    *,
    groups: Int64[np.ndarray, " B"] | None = None,
    genes: Int64[np.ndarray, " A"] | None = None,
    measured: Bool[np.ndarray, " G"] | None = None,
    normalized: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Float32[np.ndarray, "K A E"]:
    """Return the mean context embedding of each gene over the cells of each group.

    Parameters
    ----------
    counts
        Cells x the model's genes.
    groups
        The number of each cell's group, from 0. Default: one group.
    genes
        Places of genes in the model, also of unmeasured ones. Default: all.
    measured
        Which of the model's genes the data has. Default: all.

    Raises
    ------
    CountsError
        A group without a cell that can be read.
    """
    group = np.zeros(counts.shape[0], dtype=np.int64) if groups is None else groups
    num_groups = int(group.max(initial=0)) + 1
    asked = np.arange(inference.config.num_genes) if genes is None else genes
    readable = np.flatnonzero(readable_cells(counts))
    cells = np.bincount(group[readable], minlength=num_groups)
    if not cells.all():
        raise CountsError(
            f"Group {int(np.argmin(cells))} has no cell with counts in the model's genes; leave the group out."
        )
    width = inference.config.decoder.dim
    sums = np.zeros((num_groups, len(asked), width), dtype=np.float64)
    step = max(1, _BLOCK_BYTES // max(1, 4 * len(asked) * width))
    for first in range(0, len(readable), step):
        rows = readable[first : first + step]
        states = inference.gene_embeddings(
            counts[rows], genes=asked, measured=measured, normalized=normalized, progress=progress
        )
        for number in np.unique(group[rows]):
            sums[number] += states[group[rows] == number].sum(axis=0, dtype=np.float64)
    return (sums / cells[:, None, None]).astype(np.float32)
