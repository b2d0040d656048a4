"""The heaviest edges of a network, in blocks of sources: no array of genes x genes is made.

Letters: T sources; t of them at a time; A genes; M edges.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from xtrimogene.errors import ConfigError

_BLOCK = 1 << 22  # weights looked at at once
Weights = Callable[[Int64[np.ndarray, " t"]], Float32[np.ndarray, "t A"]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Edges:
    """Edges, the heaviest first; sources and targets are places in the list of genes asked for."""

    source: Int64[np.ndarray, " M"]
    target: Int64[np.ndarray, " M"]
    weight: Float32[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.weight)


def top_edges(
    weights: Weights,
    num_genes: int,
    *,
    sources: Int64[np.ndarray, " T"],
    top: int,
    min_weight: float | None = None,
    directed: bool,
) -> Edges:
    """Return the heaviest pairs of genes, no gene with itself.

    Parameters
    ----------
    weights
        Gives the weights of edges from these genes to all; NaN where there is none.
    sources
        The genes that edges start from.
    min_weight
        Leave out lighter edges.
    directed
        The edge from one gene to another is not the edge back. Undirected, an edge goes to a later gene only.

    Raises
    ------
    ConfigError
        No edge is asked for.
    """
    if top < 1:
        raise ConfigError(f"top={top} edges; ask for at least 1.")
    genes = np.arange(num_genes)
    kept = [_heaviest(genes[:0], np.zeros((0, num_genes), np.float32), np.zeros((0, num_genes), bool), top)]
    step = max(1, _BLOCK // max(1, num_genes))
    for first in range(0, len(sources), step):
        block = sources[first : first + step]
        weight = weights(block)  # (t, A)
        allowed = (block[:, None] != genes) & ~np.isnan(weight)
        if not directed:
            allowed &= block[:, None] < genes
        if min_weight is not None:
            allowed &= weight >= min_weight
        kept.append(_heaviest(block, weight, allowed, top))
    return _joined(kept, top)


def _heaviest(
    block: Int64[np.ndarray, " t"], weight: Float32[np.ndarray, "t A"], allowed: Bool[np.ndarray, "t A"], top: int
) -> Edges:
    row, target = np.nonzero(allowed)
    values = weight[row, target]
    if len(values) > top:
        best = np.argpartition(-values, top - 1)[:top]
        row, target, values = row[best], target[best], values[best]
    return Edges(source=block[row], target=target, weight=values)


def _joined(parts: list[Edges], top: int) -> Edges:
    source, target, weight = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("source", "target", "weight")
    )
    order = np.lexsort((target, source, -weight))[:top]
    return Edges(source=source[order], target=target[order], weight=weight[order])
