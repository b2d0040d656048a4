"""Where cells lie along the principal axes of a reference's expression, also where some of its genes are unmeasured.

Letters: B cells; G genes of the model; H highly variable ones; C principal axes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix

from xtrimogene.errors import GeneMatchError
from xtrimogene.evaluation.baselines import HvgPca, log_normalize


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ExpressionSpace:
    """HVG + PCA of the reference, and each gene's mean share of a reference cell's counts, 0 for a gene not read."""

    genes: Int[np.ndarray, " H"]
    mean: Float[np.ndarray, " H"]
    components: Float[np.ndarray, "C H"]
    share: Float[np.ndarray, " G"]

    @classmethod
    def fit(cls, counts: csr_matrix, read: Bool[np.ndarray, " G"], *, seed: int = 0) -> "ExpressionSpace":
        """Fit on counts (cells x G) of the genes that are ``read``; the others may hold anything."""
        columns = np.flatnonzero(read)
        chosen = counts[:, columns]
        pca = HvgPca.fit(chosen, seed=seed)
        totals = np.maximum(np.asarray(chosen.sum(axis=1), dtype=np.float64).ravel(), 1)
        share = np.zeros(len(read))
        share[columns] = np.asarray(chosen.T @ (1 / totals)).ravel() / max(chosen.shape[0], 1)
        return cls(
            genes=columns[pca.genes], mean=pca.mean, components=np.ascontiguousarray(pca.components), share=share
        )

    def share_of(self, measured: Bool[np.ndarray, " G"]) -> float:
        """Return how much of the reference's counts these genes hold."""
        return float(self.share[measured].sum() / self.share.sum())

    def place(self, counts: csr_matrix, measured: Bool[np.ndarray, " G"]) -> Float[np.ndarray, "B C"]:
        """Return coordinates of cells (B x G); a gene that is not ``measured`` lies where the reference's mean does.

        Raises
        ------
        GeneMatchError
            As `normalize`.
        """
        values = self.normalize(counts, measured)[:, self.genes].toarray()
        there = ((self.share > 0) & measured)[self.genes]
        centered = np.where(there, values - self.mean, np.float32(0))
        return np.asarray(centered @ self.components.T, dtype=np.float32)

    def normalize(self, counts: csr_matrix, measured: Bool[np.ndarray, " G"]) -> csr_matrix:
        """Return log1p of counts per 10,000 of those genes that the reference has counts of (B x G).

        Where some of them are not ``measured``, it is per as many as the rest hold of the reference's counts.

        Raises
        ------
        GeneMatchError
            What is measured holds less than half of the reference's counts.
        """
        shared, held = (self.share > 0) & measured, self.share_of(measured)
        if held < 0.5:
            raise GeneMatchError(
                f"the genes measured here hold {held:.0%} of the reference's counts; at least half are needed. "
                "Give all measured genes, or a reference of the same panel."
            )
        data = counts.data * measured[counts.indices]
        kept = csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape)
        return log_normalize(kept, total=1e4 * held, totals=counts @ shared.astype(np.float64))
