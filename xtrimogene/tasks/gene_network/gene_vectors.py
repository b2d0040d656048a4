"""A vector for each gene in each group of cells, such that the inner product of two says how they are tied.

"covariation": the model predicts a gene's expression as the product of the cell's factors and the gene's (its latent
head), so the covariance of two genes over the cells of a group is q_i' C q_j, with C that of the cells' factors: what
the cells look like once what the model takes for noise is gone. "factors": the genes' factors alone, in no cells: how
they covary in all that the model was trained on. "context": the decoder's embedding of each gene, mean of the cells.
Letters: B cells; A genes asked for; G genes of the model; K groups; P latent width; W width of a gene's vector.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64
from scipy.sparse import csr_matrix

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.errors import ConfigError
from xtrimogene.inference import Inference
from xtrimogene.tasks.annotation.latent_expression import LatentExpression
from xtrimogene.tasks.gene_states import mean_gene_embeddings

VectorMethod = Literal["covariation", "factors", "context"]


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
        return _unit(states - states.mean(axis=1, keepdims=True))
    expression = LatentExpression.of(inference.network)
    if expression is None:
        raise ConfigError(f"method={method!r} needs a model with a latent cell vector; 'context' does without.")
    factors = expression.factors[genes]
    if method == "factors":
        return np.repeat(_unit(factors - factors.mean(axis=0))[None], num_groups, axis=0)
    latent = inference.cell_embeddings(counts, pool="latent", normalized=normalized, progress=progress)
    cells = expression.mix(latent).astype(np.float32)
    return np.stack([factors @ _root_of_covariance(cells[groups == group]) for group in range(num_groups)])


def _unit(vectors: Float32[np.ndarray, "*shape W"]) -> Float32[np.ndarray, "*shape W"]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def _root_of_covariance(cells: Float32[np.ndarray, "n P"]) -> Float32[np.ndarray, "P P"]:
    """Return R with R R' the covariance of the cells that could be read."""
    read = cells[np.isfinite(cells).all(axis=1)].astype(np.float64)
    values, axes = np.linalg.eigh(np.cov(read.T))
    return (axes * np.sqrt(values.clip(min=0))).astype(np.float32)
