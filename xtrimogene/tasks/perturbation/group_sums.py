"""Sums of cells in groups, a block of cells at a time: memory grows with groups x genes, not with cells x genes.

Letters: N cells of a block; M genes; K groups.
"""

import numpy as np
from jaxtyping import Float64, Int
from scipy.sparse import csr_matrix


class GroupSums:
    """``sums`` and ``sizes`` of groups of cells; a cell of group -1 is in none."""

    def __init__(self, num_groups: int, num_genes: int) -> None:
        self.sums = np.zeros((num_groups, num_genes))
        self.sizes = np.zeros(num_groups, dtype=np.int64)

    def add(self, values: csr_matrix, group: Int[np.ndarray, " N"]) -> None:
        cells = np.flatnonzero(group >= 0)
        member = csr_matrix((np.ones(len(cells)), (group[cells], cells)), shape=(len(self.sums), values.shape[0]))
        found = (member @ values).tocoo()
        self.sums[found.row, found.col] += found.data
        self.sizes += np.bincount(group[cells], minlength=len(self.sizes))

    def means(self) -> Float64[np.ndarray, "K M"]:
        """Return the means, of an empty group zeros."""
        return np.asarray(self.sums / np.maximum(self.sizes, 1)[:, None])
