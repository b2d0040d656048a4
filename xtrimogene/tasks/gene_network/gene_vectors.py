"""A vector for each gene in each group of cells, such that the inner product of two says how they are tied.

The latent head predicts a gene's expression as the product of the cell's factors and the gene's. "factors": the genes'
factors alone, which say how genes vary together in all that the model was trained on, whatever the cells at hand.
"covariation": the covariance of two predicted genes over the cells of a group, q_i' C q_j with C the covariance of the
cells' factors. A group has few cells and few ways to vary, so C is shrunk towards the identity, that is towards
"factors", as in Ledoit and Wolf (2004). "context": the decoder's embedding of each gene, mean of the cells, by cosine.
Letters: B cells; A genes asked for; G genes of the model; K groups; P latent width; W width of a gene's vector.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from scipy.sparse import csr_matrix

from xtrimogene.errors import ConfigError
from xtrimogene.inference import Inference
from xtrimogene.tasks.annotation.latent_expression import LatentExpression
from xtrimogene.tasks.gene_states import mean_gene_embeddings
from xtrimogene.tasks.unit_rows import unit_rows

VectorMethod = Literal["factors", "covariation", "context"]
SHRINKAGE = 10.0  # of the identity, beside a covariance of mean variance 1: chosen on pbmc3k and baron_h1


def gene_vectors(
    inference: Inference,
    counts: csr_matrix,
    method: VectorMethod,
    *,
    genes: Int64[np.ndarray, " A"],
    groups: Int64[np.ndarray, " B"],
    measured: Bool[np.ndarray, " G"] | None = None,
    normalized: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Float32[np.ndarray, "K A W"]:
    """Return vectors of the genes, in each group of cells."""
    num_groups = int(groups.max(initial=0)) + 1
    if method == "context":
        states = mean_gene_embeddings(
            inference, counts, groups=groups, genes=genes, measured=measured, normalized=normalized, progress=progress
        )
        return unit_rows(states - states.mean(axis=1, keepdims=True))
    expression = LatentExpression.of(inference.network)
    if expression is None:
        raise ConfigError(f"method={method!r} needs a model with a latent cell vector; 'context' does without.")
    factors = expression.factors[genes] - expression.factors.mean(axis=0)
    if method == "factors":
        return np.repeat(factors[None], num_groups, axis=0)
    latent = inference.cell_embeddings(counts, pool="latent", normalized=normalized, progress=progress)
    cells = expression.mix(latent)
    return np.stack([factors @ _root_of_covariance(cells[groups == group]) for group in range(num_groups)])


def _root_of_covariance(cells: Float[np.ndarray, "n P"]) -> Float32[np.ndarray, "P P"]:
    """Return R with R R' the shrunk covariance of the cells that could be read; its mean variance is 1."""
    read = cells[np.isfinite(cells).all(axis=1)].astype(np.float64)
    variances, axes = np.linalg.eigh(np.cov(read.T))
    mean = variances.mean()
    shrunk = (variances.clip(min=0) / mean if mean > 0 else 0.0 * variances) + SHRINKAGE
    return (axes * np.sqrt(shrunk / (1 + SHRINKAGE))).astype(np.float32)
