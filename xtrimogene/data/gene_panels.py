"""Which genes the source of a cell measured: an outer join of batches has as many panels as batches.

In an outer join a gene that a batch did not measure stands as zeros. A gene without a single count in a batch is taken
for one of those: unknown, which does no harm where it was measured and silent.
Letters: B cells, G genes, R panels.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int64, Shaped
from scipy.sparse import csr_matrix


def panels_of_batches(
    blocks: Iterable[tuple[int, csr_matrix]], measured: Bool[np.ndarray, "G"], batches: Shaped[np.ndarray, "B"]
) -> tuple[Bool[np.ndarray, "R G"], Int64[np.ndarray, "B"]]:
    """Return the genes that each batch measured, batches in the order of their names, and the panel of each cell.

    Parameters
    ----------
    blocks
        The whole join, block after block: the first row and cells x genes.
    measured
        The genes that the join has.
    batches
        The batch of each cell.
    """
    names, panel = np.unique(batches, return_inverse=True)
    expressed = np.zeros((len(names), len(measured)), dtype=bool)
    for start, counts in blocks:
        here = panel[start : start + counts.shape[0]]
        for batch in np.unique(here):
            expressed[batch] |= counts[here == batch].getnnz(axis=0) > 0
    return expressed & measured, panel.astype(np.int64)
