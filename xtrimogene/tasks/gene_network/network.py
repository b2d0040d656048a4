"""The heaviest edges in each group of cells, by any of the methods.

Letters: B cells; A genes asked for; G genes of the model; K groups; e of the genes a group expresses.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64
from scipy.sparse import csr_matrix

from xtrimogene.inference import Inference
from xtrimogene.tasks.gene_network.attention import mean_attention
from xtrimogene.tasks.gene_network.gene_vectors import gene_vectors
from xtrimogene.tasks.gene_network.top_edges import Edges, top_edges

NetworkMethod = Literal["factors", "covariation", "context", "attention"]
Progress = Callable[[int], None]


def gene_network(
    inference: Inference,
    counts: csr_matrix,
    method: NetworkMethod,
    *,
    genes: Int64[np.ndarray, " A"],
    groups: Int64[np.ndarray, " B"],
    is_source: Bool[np.ndarray, " A"] | None = None,
    measured: Bool[np.ndarray, " G"] | None = None,
    normalized: bool = False,
    top: int = 1000,
    min_weight: float | None = None,
    min_share: float = 0.1,
    progress: Progress | None = None,
) -> list[Edges]:
    """Return the ``top`` edges of each group, of genes that a share of ``min_share`` of its cells expresses.

    Parameters
    ----------
    counts
        Cells x the model's genes.
    genes
        Their places in the model; sources and targets are places in this list.
    groups
        The number of each cell's group, from 0.
    is_source
        Which genes edges start from; they then go both ways between two of these. Default: all, and a pair of genes is
        one edge, but by "attention".
    """
    edges = []
    vectors = None
    if method != "attention":
        vectors = gene_vectors(
            inference,
            counts,
            method,
            genes=genes,
            groups=groups,
            measured=measured,
            normalized=normalized,
            progress=progress,
        )
    for group in range(int(groups.max(initial=0)) + 1):
        cells = counts[groups == group]
        own = np.flatnonzero(_share_expressing(cells, genes) >= min_share)
        sources = np.arange(len(own)) if is_source is None else np.flatnonzero(is_source[own])
        if vectors is None:
            attention = mean_attention(
                inference,
                cells,
                sources=genes[own][sources],
                targets=genes[own],
                normalized=normalized,
                progress=progress,
            )
            weights = _rows_of(attention, sources)
        else:
            weights = _products_of(vectors[group][own])
        directed = method == "attention" or is_source is not None
        found = top_edges(weights, len(own), sources=sources, top=top, min_weight=min_weight, directed=directed)
        edges.append(Edges(source=own[found.source], target=own[found.target], weight=found.weight))
    return edges


def _share_expressing(counts: csr_matrix, genes: Int64[np.ndarray, " A"]) -> np.ndarray:
    return np.bincount(counts.indices, minlength=counts.shape[1])[genes] / max(1, counts.shape[0])


def _products_of(vectors: Float32[np.ndarray, "e W"]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: vectors[rows] @ vectors.T


def _rows_of(
    weights: Float32[np.ndarray, "s e"], sources: Int64[np.ndarray, " s"]
) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: weights[np.searchsorted(sources, rows)]
