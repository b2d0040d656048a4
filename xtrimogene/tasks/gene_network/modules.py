"""Modules: groups of genes that are tied to each other more than to the rest (Leiden, Traag et al. 2019).

Letters: A genes; W width of a gene's vector; k neighbours; M modules.
"""

import random
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from xtrimogene.errors import ConfigError, MissingExtraError
from xtrimogene.tasks.unit_rows import unit_rows

_BLOCK = 1 << 22  # cosines looked at at once


def find_modules(
    vectors: Float32[np.ndarray, "A W"],
    *,
    resolution: float = 1.0,
    num_neighbors: int = 15,
    min_size: int = 5,
    seed: int = 0,
) -> Int64[np.ndarray, " A"]:
    """Return the module of each gene, the largest first; -1 for a gene of none.

    Genes are joined to their nearest by cosine, with the cosine as weight; Leiden finds the modules.

    Parameters
    ----------
    resolution
        Larger for more and smaller modules.
    min_size
        A smaller module is none.

    Raises
    ------
    MissingExtraError
        igraph is not installed.
    ConfigError
        Fewer than three genes, or a number that is none; no module is as large as ``min_size``.
    """
    if len(vectors) < 3:
        raise ConfigError(f"modules of {len(vectors)} genes cannot be found; give at least 3.")
    if resolution <= 0 or num_neighbors < 1 or min_size < 1:
        raise ConfigError(
            f"resolution={resolution:g}, num_neighbors={num_neighbors} and min_size={min_size} have to be above 0."
        )
    igraph = graph_package()
    ends, weights = _neighbors(vectors, min(num_neighbors, len(vectors) - 1))
    graph = igraph.Graph(n=len(vectors), edges=ends.tolist())
    igraph.set_random_number_generator(random.Random(seed))
    try:
        found = graph.community_leiden(
            objective_function="modularity", weights=weights.tolist(), resolution=resolution, n_iterations=-1
        )
    finally:
        igraph.set_random_number_generator(random)
    modules = _by_size(np.array(found.membership, dtype=np.int64), min_size)
    if modules.max() < 0:
        raise ConfigError(f"no module has {min_size} genes; ask for a smaller resolution, or a smaller min_size.")
    return modules


def graph_package() -> Any:
    """Return igraph.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        import igraph  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtraError("modules and layouts need igraph: pip install 'xtrimogene[graph]'.") from None
    return igraph


def _neighbors(
    vectors: Float32[np.ndarray, "A W"], k: int
) -> tuple[Int64[np.ndarray, "e 2"], Float32[np.ndarray, " e"]]:
    """Return pairs of which one is among the other's nearest, each once, and their cosines; those above 0."""
    unit = unit_rows(vectors)
    pairs, cosines = [], []
    step = max(1, _BLOCK // len(unit))
    for first in range(0, len(unit), step):
        cosine = unit[first : first + step] @ unit.T  # (a, A)
        own = np.arange(len(cosine))
        cosine[own, first + own] = -np.inf
        nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        pairs.append(np.stack([np.repeat(first + own, k), nearest.ravel()], axis=1))
        cosines.append(np.take_along_axis(cosine, nearest, axis=1).ravel())
    ends, weights = np.sort(np.concatenate(pairs), axis=1), np.concatenate(cosines)
    ends, weights = ends[weights > 0], weights[weights > 0]
    ends, at = np.unique(ends, axis=0, return_index=True)
    return ends, weights[at]


def _by_size(membership: Int64[np.ndarray, " A"], min_size: int) -> Int64[np.ndarray, " A"]:
    """Number modules by size, the largest 0; ties by their first gene."""
    names, first, place, sizes = np.unique(membership, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    number = np.empty(len(names), dtype=np.int64)
    number[order] = np.arange(len(names))
    number[sizes < min_size] = -1
    return number[place]
