"""Where shallow cells lie: principal axes of the square roots of their counts, scaled to the median depth.

A square root gives a molecule of a rare gene and of a common one the same noise. log1p of counts per 10,000, made of a
few hundred, makes every single molecule large, and the rare genes lead the axes.
Letters: N cells; M genes measured; H genes that vary most; C axes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA

from xtrimogene.tasks.denoising.molecules import totals_of

NUM_GENES, NUM_COMPONENTS = 2_000, 15


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RootPca:
    """The genes and the axes of some cells; `transform` places any cells on them."""

    depth: float
    genes: Int64[np.ndarray, " H"]
    mean: Float32[np.ndarray, " H"]
    components: Float32[np.ndarray, "C H"]

    @classmethod
    def fit(cls, counts: csr_matrix, *, seed: int = 0) -> "RootPca":
        """Choose genes and axes by these cells, N x M integral counts."""
        depth = float(np.median(totals_of(counts)))
        roots = _roots(counts, depth)
        mean = np.asarray(roots.mean(axis=0), dtype=np.float64).ravel()
        variance = np.asarray(roots.multiply(roots).mean(axis=0), dtype=np.float64).ravel() - mean**2
        genes = np.sort(np.argsort(-variance, kind="stable")[:NUM_GENES])
        dense = roots[:, genes].toarray()
        number = min(NUM_COMPONENTS, *(size - 1 for size in dense.shape))
        pca = PCA(number, svd_solver="randomized", random_state=seed).fit(dense)
        return cls(depth=depth, genes=genes, mean=pca.mean_, components=pca.components_)

    def transform(self, counts: csr_matrix) -> Float32[np.ndarray, "N C"]:
        centered = _roots(counts, self.depth)[:, self.genes].toarray() - self.mean
        return np.asarray(centered @ self.components.T, dtype=np.float32)


def _roots(counts: csr_matrix, depth: float) -> csr_matrix:
    totals: Float[np.ndarray, " N"] = np.repeat(np.maximum(totals_of(counts), 1), np.diff(counts.indptr))
    values = np.sqrt(counts.data * (depth / totals)).astype(np.float32)
    return csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)
