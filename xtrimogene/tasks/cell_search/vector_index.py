"""Which of many vectors point the same way: a graph of neighbours (HNSW, by usearch) that is read from disk as needed.

Vectors are counted from the mean of those in the index and compared by cosine: on the validation studies that finds
cells of the query's type better than the cosine alone or the distance does, with our vectors as with HVG + PCA
(benchmarks/retrieval.py). What is found is the same whatever else is asked at once.
Letters: N vectors in the index; Q queries; P width of a vector; k answers to each query.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64

from xtrimogene.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from usearch.index import Index

VectorPrecision = Literal["float16", "float32", "int8"]
DTYPES: Mapping[VectorPrecision, str] = MappingProxyType({"float16": "f16", "float32": "f32", "int8": "i8"})
NEIGHBOURS = 16  # of a vector in the graph
BUILD_CANDIDATES, SEARCH_CANDIDATES = 128, 512  # kept while a vector is placed, and while near ones are looked for
EXACT_ROWS = 10_000  # so many vectors are read and compared in 15 ms, which a graph walked far takes too
MOST_WALKED = 20_000  # neighbours of a query
BLOCK_ROWS, BLOCK_QUERIES = 65_536, 256


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Neighbors:
    """The rows found for each query, the nearest first, and their cosines; where there are fewer than k, -1 and NaN."""

    rows: Int64[np.ndarray, "Q k"]
    scores: Float32[np.ndarray, "Q k"]


class VectorIndex:
    """Vectors to search; `add` and `save` make one, `open` reads one back without loading it into memory.

    Raises
    ------
    MissingExtraError
        usearch is not installed.
    """

    def __init__(self, graph: "Index", center: Float32[np.ndarray, " P"]) -> None:
        self.graph, self.center = graph, center

    @classmethod
    def empty(cls, center: Float32[np.ndarray, " P"], precision: VectorPrecision = "float16") -> "VectorIndex":
        """Start one around the mean of what will be in it."""
        graph = graph_class()(
            ndim=len(center),
            metric="cos",
            dtype=DTYPES[precision],
            connectivity=NEIGHBOURS,
            expansion_add=BUILD_CANDIDATES,
            expansion_search=SEARCH_CANDIDATES,
        )
        return cls(graph, center)

    @classmethod
    def open(cls, path: Path, center: Float32[np.ndarray, " P"]) -> "VectorIndex":
        """Read a saved one; pages of the file come into memory as they are needed."""
        graph = graph_class().restore(path, view=True)
        if graph is None or graph.ndim != len(center):
            raise ConfigError(f"{path} holds no vectors of {len(center)} numbers.")
        graph.expansion_search = SEARCH_CANDIDATES
        return cls(graph, center)

    def __len__(self) -> int:
        return len(self.graph)

    def add(self, vectors: Float32[np.ndarray, "n P"], *, threads: int = 0) -> None:
        """Append; with more than one thread (0: one for each core) the graph is another each time, and as good."""
        start = len(self)
        self.graph.add(np.arange(start, start + len(vectors)), self._directions(vectors), threads=threads)

    def save(self, path: Path) -> None:
        self.graph.save(path)

    def search(
        self,
        vectors: Float32[np.ndarray, "Q P"],
        k: int,
        *,
        allowed: Bool[np.ndarray, " N"] | None = None,
        exact: bool = False,
    ) -> Neighbors:
        """Find the k nearest rows, of those allowed.

        Up to 10,000 rows, or so many allowed ones, are compared one by one; more are found through the graph, which
        misses some. With ``exact`` all are compared: for each million, 1.5 s of reading and 20 ms a query.
        """
        directions = self._directions(vectors)
        number = len(self) if allowed is None else int(allowed.sum())
        if exact or number <= EXACT_ROWS:
            rows = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
            return self._compared(directions, k, rows)
        return self._walked(directions, k) if allowed is None else self._walked_among(directions, k, allowed)

    def _walked(self, directions: Float32[np.ndarray, "Q P"], k: int) -> Neighbors:
        found = self.graph.search(directions, k)
        each = [found] if len(directions) == 1 else list(found)  # of one query it returns no batch
        return _filled([one.keys.astype(np.int64) for one in each], [1 - one.distances for one in each], k)

    def _walked_among(
        self, directions: Float32[np.ndarray, "Q P"], k: int, allowed: Bool[np.ndarray, " N"]
    ) -> Neighbors:
        found = [self._first_allowed(direction, k, allowed) for direction in directions]
        return _filled([rows for rows, _ in found], [scores for _, scores in found], k)

    def _first_allowed(
        self, direction: Float32[np.ndarray, " P"], k: int, allowed: Bool[np.ndarray, " N"]
    ) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """Ask for more and more neighbours until k of them are allowed."""
        wanted = int(2 * k * len(allowed) / allowed.sum()) + 1
        while wanted <= MOST_WALKED:
            found = self.graph.search(direction, wanted)
            kept = allowed[found.keys]
            if kept.sum() >= k:
                return found.keys[kept].astype(np.int64), 1 - found.distances[kept]
            wanted *= 4
        one = self._compared(direction[None], k, np.flatnonzero(allowed))
        return one.rows[0], one.scores[0]

    def _compared(self, directions: Float32[np.ndarray, "Q P"], k: int, rows: Int64[np.ndarray, " R"]) -> Neighbors:
        best = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)) for _ in directions]
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            stored = self._stored(block)
            for query in range(0, len(directions), BLOCK_QUERIES):
                scores = directions[query : query + BLOCK_QUERIES] @ stored.T
                nearest = np.argpartition(-scores, min(k, len(block)) - 1, axis=1)[:, :k]
                for place, (row, score) in enumerate(zip(nearest, scores, strict=True), start=query):
                    found = np.append(best[place][0], block[row]), np.append(best[place][1], score[row])
                    order = np.argsort(-found[1], kind="stable")[:k]
                    best[place] = found[0][order], found[1][order]
        return _filled([rows for rows, _ in best], [scores for _, scores in best], k)

    def _stored(self, rows: Int64[np.ndarray, " R"]) -> Float32[np.ndarray, "R P"]:
        """Read vectors back; what rounding took from their length is given back."""
        stored = np.asarray(self.graph.get(rows, dtype=np.float32)).reshape(len(rows), -1)
        return unit(stored)

    def _directions(self, vectors: Float32[np.ndarray, "n P"]) -> Float32[np.ndarray, "n P"]:
        return unit(vectors - self.center)


def unit(vectors: Float32[np.ndarray, "n P"]) -> Float32[np.ndarray, "n P"]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(length, np.finfo(np.float32).tiny)).astype(np.float32)


def check_precision(precision: str) -> None:
    """Refuse one that an index cannot have, before long work.

    Raises
    ------
    ConfigError
        It is none.
    """
    if precision not in DTYPES:
        raise ConfigError(f"precision={precision!r} is not one of {', '.join(DTYPES)}.")


def graph_class() -> "type[Index]":
    """Return usearch's index.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        from usearch.index import Index
    except ImportError:
        raise MissingExtraError("cell search needs an extra: pip install 'xtrimogene[search]'.") from None
    return Index


def _filled(rows: list[np.ndarray], scores: list[np.ndarray], k: int) -> Neighbors:
    all_rows = np.full((len(rows), k), -1, dtype=np.int64)
    all_scores = np.full((len(rows), k), np.nan, dtype=np.float32)
    for place, (found, score) in enumerate(zip(rows, scores, strict=True)):
        all_rows[place, : len(found)], all_scores[place, : len(found)] = found[:k], score[:k]
    return Neighbors(rows=all_rows, scores=all_scores)
