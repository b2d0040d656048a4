"""Which of many vectors point the same way: a graph of neighbours (HNSW, by usearch) that is read from disk as needed.

What is found is the same whatever else is asked at once; of cells that are alike, those added first.
Letters: N vectors in the index; Q queries; W width of a vector; k answers to each query.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64

from xtrimogene.errors import ConfigError, MissingExtraError
from xtrimogene.tasks.cell_search.cell_space import unit

if TYPE_CHECKING:
    from usearch.index import Index

VectorPrecision = Literal["float16", "float32", "int8"]
DTYPES: Mapping[VectorPrecision, str] = MappingProxyType({"float16": "f16", "float32": "f32", "int8": "i8"})
NEIGHBOURS = 16  # of a vector in the graph
BUILD_CANDIDATES, SEARCH_CANDIDATES = 128, 512  # kept while a vector is placed, and while near ones are looked for
EXACT_ROWS = 10_000  # so many vectors are read and compared in 15 ms, which a graph walked far takes too
WIDER, MOST_WALKED = 8, 20_000  # neighbours of a query: times k / share allowed, and at most
BLOCK_ROWS, BLOCK_QUERIES = 65_536, 256
ROUNDING = 1e-5  # of a cosine, in float32


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Neighbors:
    """The rows found for each query, the nearest first, and their cosines; k as asked for, or as many as there are."""

    rows: Int64[np.ndarray, "Q k"]
    scores: Float32[np.ndarray, "Q k"]


class VectorIndex:
    """Vectors to search; `add` and `save` make one, `open` reads one back without loading it into memory.

    Raises
    ------
    MissingExtraError
        usearch is not installed.
    """

    def __init__(self, graph: "Index") -> None:
        self.graph = graph

    @classmethod
    def empty(cls, width: int, precision: VectorPrecision = "float16") -> "VectorIndex":
        graph = graph_class()(
            ndim=width,
            metric="cos",
            dtype=DTYPES[precision],
            connectivity=NEIGHBOURS,
            expansion_add=BUILD_CANDIDATES,
            expansion_search=SEARCH_CANDIDATES,
        )
        return cls(graph)

    @classmethod
    def open(cls, path: Path, width: int) -> "VectorIndex":
        """Read a saved one; pages of the file come into memory as they are needed."""
        graph = graph_class().restore(path, view=True)
        if graph is None or graph.ndim != width:
            raise ConfigError(f"{path} holds no vectors of {width} numbers.")
        graph.expansion_search = SEARCH_CANDIDATES
        return cls(graph)

    def __len__(self) -> int:
        return len(self.graph)

    def add(self, vectors: Float32[np.ndarray, "n W"], *, threads: int = 0) -> None:
        """Append; with more than one thread (0: one for each core) the graph is another each time, and as good."""
        start = len(self)
        self.graph.add(np.arange(start, start + len(vectors)), unit(vectors), threads=threads)

    def save(self, path: Path) -> None:
        self.graph.save(path)

    def search(
        self,
        vectors: Float32[np.ndarray, "Q W"],
        k: int,
        *,
        allowed: Bool[np.ndarray, " N"] | None = None,
        exact: bool = False,
    ) -> Neighbors:
        """Find the k nearest rows, of those allowed.

        Up to 10,000 rows, or so many allowed ones, are compared one by one; more are found through the graph, which
        misses some. With ``exact`` all are compared: for each million, 3 s of reading and 13 ms a query.
        """
        directions = unit(vectors)
        number = len(self) if allowed is None else int(allowed.sum())
        k = min(k, number)
        if exact or number <= EXACT_ROWS:
            return self._compared(directions, k, allowed)
        return self._walked(directions, k, allowed)

    def _walked(
        self, directions: Float32[np.ndarray, "Q W"], k: int, allowed: Bool[np.ndarray, " N"] | None
    ) -> Neighbors:
        """Walk the graph, further where not all are allowed; a query that still falls short is compared with all."""
        found: list[Int64[np.ndarray, " n"] | None]
        if allowed is None:
            batch = self.graph.search(directions, k)
            each = [batch] if len(directions) == 1 else list(batch)  # of one query it returns no batch
            found = [one.keys.astype(np.int64) if len(one.keys) == k else None for one in each]
        else:
            found = [self._first_allowed(direction, k, allowed) for direction in directions]
        rows = np.empty((len(directions), k), dtype=np.int64)
        short = [place for place, keys in enumerate(found) if keys is None]
        if short:
            rows[short] = self._compared(directions[short], k, allowed).rows
        for place, keys in enumerate(found):
            if keys is not None:
                rows[place] = keys
        return self._scored(directions, rows)

    def _first_allowed(
        self, direction: Float32[np.ndarray, " W"], k: int, allowed: Bool[np.ndarray, " N"]
    ) -> Int64[np.ndarray, " k"] | None:
        """Ask for more and more neighbours until k of them are allowed; None where that is too far."""
        wanted = int(WIDER * k * len(allowed) / allowed.sum()) + 1
        while wanted <= MOST_WALKED:
            keys = self.graph.search(direction, wanted).keys.astype(np.int64)
            kept = keys[allowed[keys]]
            if len(kept) >= k:
                return kept[:k]
            wanted *= 4
        return None

    def _scored(self, directions: Float32[np.ndarray, "Q W"], rows: Int64[np.ndarray, "Q k"]) -> Neighbors:
        """Score rows as `_compared` does: the graph rounds a query as it rounds what it holds."""
        scores = np.empty(rows.shape, dtype=np.float32)
        for place, (direction, of_one) in enumerate(zip(directions, rows, strict=True)):
            score = _cosines(self._stored(of_one), direction)
            order = np.lexsort((of_one, -score))
            rows[place], scores[place] = of_one[order], score[order]
        return Neighbors(rows=rows, scores=scores)

    def _compared(
        self, directions: Float32[np.ndarray, "Q W"], k: int, allowed: Bool[np.ndarray, " N"] | None
    ) -> Neighbors:
        rows = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
        best = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)) for _ in directions]
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            stored, most = self._stored(block), min(k, len(block))
            for query in range(0, len(directions), BLOCK_QUERIES):
                rough = directions[query : query + BLOCK_QUERIES] @ stored.T
                least = np.partition(rough, -most, axis=1)[:, -most, None]
                for place, own in enumerate(rough >= least - ROUNDING, start=query):
                    near = np.flatnonzero(own)
                    score = np.append(best[place][1], _cosines(stored[near], directions[place]))
                    row = np.append(best[place][0], block[near])
                    order = np.lexsort((row, -score))[:k]
                    best[place] = row[order], score[order]
        return Neighbors(
            rows=np.stack([rows for rows, _ in best]) if best else np.zeros((0, k), dtype=np.int64),
            scores=np.stack([scores for _, scores in best]) if best else np.zeros((0, k), dtype=np.float32),
        )

    def _stored(self, rows: Int64[np.ndarray, " R"]) -> Float32[np.ndarray, "R W"]:
        """Read vectors back; what rounding took from their length is given back."""
        stored = np.asarray(self.graph.get(rows, dtype=np.float32)).reshape(len(rows), -1)
        return unit(stored)


def _cosines(stored: Float32[np.ndarray, "R W"], direction: Float32[np.ndarray, " W"]) -> Float32[np.ndarray, " R"]:
    """Return one cosine a row, whatever the other rows are: a product of matrices rounds by how many there are."""
    return np.minimum((stored * direction).sum(axis=1), np.float32(1))


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
