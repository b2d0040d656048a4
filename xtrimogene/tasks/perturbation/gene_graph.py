"""A graph over genes, and where walks along it lead: a few sparse products.

torch-geometric would bring compiled wheels for what is here one normalised adjacency matrix and its powers; smoothing
has no weights to learn, so that nothing of it is needed.
Letters: G genes; N cells; M measured genes; D width.
"""

import numpy as np
from jaxtyping import Float, Int, Num
from scipy.sparse import csr_matrix, diags_array, eye_array

from xtrimogene.errors import ConfigError


def edge_graph(
    source: Int[np.ndarray, " K"], target: Int[np.ndarray, " K"], weight: Num[np.ndarray, " K"], num_genes: int
) -> csr_matrix:
    """Build the symmetric graph (G x G) of weighted edges; repeated ones are added, loops left out.

    Raises
    ------
    ConfigError
        A weight is negative or not finite, or no edge is left.
    """
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ConfigError("edges of a gene graph need finite weights of 0 or more.")
    kept = (source != target) & (weight > 0)
    if not kept.any():
        raise ConfigError("no edge of the gene graph joins two different genes of the model; look at its gene names.")
    half = csr_matrix((weight[kept].astype(np.float64), (source[kept], target[kept])), shape=(num_genes, num_genes))
    return csr_matrix(half + half.T)


def coexpression_graph(values: csr_matrix, *, num_neighbors: int = 10, block: int = 1024) -> csr_matrix:
    """Join each gene to those whose expression is most correlated with its own, of a correlation above 0 (M x M).

    Correlations are computed a block of genes at a time: neither cells x genes nor genes x genes is ever dense.
    """
    num_cells, num_genes = values.shape
    mean = np.asarray(values.mean(axis=0)).ravel()
    squares = np.asarray(values.multiply(values).mean(axis=0)).ravel()
    spread = np.sqrt(np.maximum(squares - mean**2, 0))
    sources, targets, weights = [], [], []
    for start in range(0, num_genes, block):
        here = slice(start, min(start + block, num_genes))
        both = np.asarray((values[:, here].T @ values).todense()) / num_cells - np.outer(mean[here], mean)
        scale = np.outer(spread[here], spread)
        alike = np.divide(both, scale, out=np.zeros_like(both), where=scale > 0)
        alike[np.arange(alike.shape[0]), np.arange(here.start, here.stop)] = 0
        best = np.argsort(-alike, axis=1, kind="stable")[:, :num_neighbors]
        weight = np.take_along_axis(alike, best, axis=1)
        kept = weight > 0
        sources.append(np.repeat(np.arange(here.start, here.stop), kept.sum(axis=1)))
        targets.append(best[kept])
        weights.append(weight[kept])
    half = csr_matrix(
        (np.concatenate(weights), (np.concatenate(sources), np.concatenate(targets))), shape=(num_genes, num_genes)
    )
    return csr_matrix(half.maximum(half.T))


def walk(graph: csr_matrix) -> csr_matrix:
    """Return D^-1/2 (A + I) D^-1/2, the step of a graph convolution (Kipf and Welling 2017)."""
    looped = graph + eye_array(graph.shape[0])
    scale = diags_array(1 / np.sqrt(np.asarray(looped.sum(axis=1)).ravel()))
    return csr_matrix(scale @ looped @ scale)


def smooth(graph: csr_matrix, vectors: Float[np.ndarray, "G D"], *, num_steps: int = 2) -> Float[np.ndarray, "G D"]:
    """Average the vectors of genes with those of their neighbours, ``num_steps`` times."""
    step = walk(graph)
    for _ in range(num_steps):
        vectors = step @ vectors
    return vectors


def neighborhoods(graph: csr_matrix, genes: Int[np.ndarray, " P"], *, num_steps: int = 2) -> csr_matrix:
    """Return where walks from these genes end (P x G), each row of length 1; a gene without edges is all zeros."""
    step = walk(graph)
    ends = csr_matrix((np.ones(len(genes)), (np.arange(len(genes)), genes)), shape=(len(genes), graph.shape[0]))
    for _ in range(num_steps):
        ends = ends @ step
    alone = np.asarray(graph[genes].sum(axis=1)).ravel() == 0
    length = np.sqrt(np.asarray(ends.multiply(ends).sum(axis=1)).ravel())
    return csr_matrix(diags_array(np.where(alone, 0.0, 1 / length)) @ ends)
