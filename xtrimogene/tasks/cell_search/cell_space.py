"""Where cells lie beside those of an index: by their embedding and, with half of its weight, along axes of expression.

Each of the two is counted from the index's mean and brought to length 1, so that the cosine of two cells is the mean of
two cosines, the embedding's twice. On the validation studies that finds cells of the right type better than either
alone (benchmarks/retrieval.py: weights 1 : 1, 2 : 1 and 1 : 2 were tried). The axes are HVG + PCA of the index's cells.
Letters: n cells; P width of an embedding; C axes; G genes of the model.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.sparse import csr_matrix

from xtrimogene.tasks.expression_space import ExpressionSpace

EMBEDDING_WEIGHT = 2 / 3  # of the cosine


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CellSpace:
    """The index's mean, embedding first, then axes; without ``expression`` there is the embedding alone."""

    center: Float32[np.ndarray, " W"]
    expression: ExpressionSpace | None

    def directions(self, rows: Float32[np.ndarray, "n W"]) -> Float32[np.ndarray, "n W"]:
        """Return vectors of length 1 whose cosines are compared."""
        rows = rows - self.center
        if self.expression is None:
            return unit(rows)
        num_axes = len(self.expression.components)
        embedding, axes = rows[:, :-num_axes], rows[:, -num_axes:]
        weights = np.sqrt([EMBEDDING_WEIGHT, 1 - EMBEDDING_WEIGHT]).astype(np.float32)
        return np.hstack([weights[0] * unit(embedding), weights[1] * unit(axes)])


def place(
    expression: ExpressionSpace | None, counts: csr_matrix, measured: Bool[np.ndarray, " G"]
) -> Float32[np.ndarray, "n C"]:
    """Return where cells lie along the axes, of which there may be none.

    Raises
    ------
    GeneMatchError
        As `ExpressionSpace.place`.
    """
    if expression is None:
        return np.zeros((counts.shape[0], 0), dtype=np.float32)
    return expression.place(counts, measured).astype(np.float32)


def unit(vectors: Float[np.ndarray, "n W"]) -> Float32[np.ndarray, "n W"]:
    """Bring rows to length 1; one of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(length, np.finfo(np.float32).tiny)).astype(np.float32)
