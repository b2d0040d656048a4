"""An edit of counts: genes knocked out, or over-expressed, in each cell that this changes.

An edited cell is a cell like any other: its counts are normalised to 10,000 anew. So what a knock-out takes, the
other genes of the cell gain in proportion, and what an over-expression adds, they lose; the model is told the new
total.

Letters: B cells; G genes of the model; b cells that are changed; m genes of the edit.
"""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.sparse import csc_matrix, csr_matrix

from xtrimogene.data.packed_cells import COUNTS_PER_CELL
from xtrimogene.errors import ConfigError

EditKind = Literal["knock-out", "over-expression"]
_PATTERN = re.compile(r"([qfc])(\d+(?:\.\d+)?)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """Genes, by their places in the model, that are edited together."""

    kind: EditKind
    genes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Level:
    """How far a gene is raised.

    ``q``: to this quantile of its share of counts in the cells that express it; ``f``: to so many times its count,
    in the cells that have one; ``c``: to so many counts per 10,000. With q and c the edited cell has that share, but
    for rounding to whole counts, and at least one count; a gene that has more already stays as it is.
    """

    kind: Literal["q", "f", "c"]
    amount: float

    @classmethod
    def parse(cls, text: str) -> "Level":
        """Read "q0.95", "f10" or "c20".

        Raises
        ------
        ConfigError
            Another letter, no number, or one that raises nothing or leaves nothing to the other genes.
        """
        found = _PATTERN.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"level={text!r} is not one of q, f, c followed by a number: 'q0.95' (a quantile of what cells that "
                "express the gene have), 'f10' (tenfold), 'c20' (counts per 10,000)."
            )
        kind, amount = found.group(1), float(found.group(2))
        low, high = {"q": (0.0, 1.0), "f": (1.0, 1e6), "c": (0.0, COUNTS_PER_CELL / 2)}[kind]
        if not low < amount <= high:
            raise ConfigError(f"level={text!r}: the number after {kind!r} must be above {low:g} and at most {high:g}.")
        return cls(kind, amount)  # type: ignore[arg-type]


class EditableCells:
    """Counts that are read by row and by column; what an edit makes of them.

    ``reference`` are the cells that levels of expression are learned from; by default, these.
    """

    def __init__(self, counts: csr_matrix, reference: csr_matrix | None = None) -> None:
        self.counts = counts
        self.reference = self if reference is None else EditableCells(reference)
        self.columns = csc_matrix(counts)
        self.totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()

    @property
    def num_expressing(self) -> Int64[np.ndarray, " G"]:
        """How many cells express each gene."""
        return np.diff(self.columns.indptr).astype(np.int64)

    def has(self, gene: int) -> Float64[np.ndarray, " B"]:
        """Return the counts of a gene in every cell."""
        start, stop = self.columns.indptr[gene : gene + 2]
        column = np.zeros(self.counts.shape[0])
        column[self.columns.indices[start:stop]] = self.columns.data[start:stop]
        return column

    def edited(self, edit: Edit, level: Level) -> tuple[Int64[np.ndarray, " b"], csr_matrix, Float64[np.ndarray, " b"]]:
        """Return the cells that an edit changes, their counts then, and by how much their values of its genes change.

        The last is the sum over these genes of the absolute change of log1p of counts per 10,000. A cell that would
        keep no more than one count is left as it is: no model could read it.
        """
        now = np.stack([self.has(gene) for gene in edit.genes], axis=1)  # (B, m)
        wanted = np.zeros_like(now) if edit.kind == "knock-out" else self._raised(now, edit.genes, level)
        totals = self.totals - now.sum(axis=1) + wanted.sum(axis=1)
        rows = np.flatnonzero((wanted != now).any(axis=1) & (totals > 1))
        now, wanted, totals = now[rows], wanted[rows], totals[rows]
        strength = np.abs(_values(wanted, totals) - _values(now, self.totals[rows])).sum(axis=1)
        return rows, _replaced(self.counts[rows], np.array(edit.genes), wanted), strength

    def _raised(
        self, now: Float64[np.ndarray, "B m"], genes: tuple[int, ...], level: Level
    ) -> Float64[np.ndarray, "B m"]:
        if level.kind == "f":
            return np.where(now > 0, np.maximum(now, np.rint(now * level.amount)), 0.0)
        if level.kind == "c":
            shares = np.full(now.shape[1], level.amount / COUNTS_PER_CELL)
        else:
            shares = np.array([self.reference.share(gene, level.amount) for gene in genes])
        rest = self.totals - now.sum(axis=1)  # what the other genes have
        left = max(1.0 - float(shares.sum()), 0.1)  # of an edited cell, for them
        return np.maximum(now, np.maximum(1.0, np.rint(rest[:, None] * shares / left)))

    def share(self, gene: int, quantile: float) -> float:
        """Return a quantile of a gene's share of counts in the cells that express it."""
        column = self.has(gene)
        expressing = column > 0
        return float(np.quantile(column[expressing] / self.totals[expressing], quantile)) if expressing.any() else 0.0


def _values(counts: Float64[np.ndarray, "b m"], totals: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, "b m"]:
    return np.log1p(COUNTS_PER_CELL * counts / totals[:, None])


def _replaced(counts: csr_matrix, genes: Int64[np.ndarray, " m"], wanted: Float64[np.ndarray, "b m"]) -> csr_matrix:
    """Return a copy with these counts of these genes."""
    kept: Bool[np.ndarray, " n"] = ~np.isin(counts.indices, genes)
    starts = np.concatenate([[0], kept.cumsum()])[counts.indptr]
    others = csr_matrix((counts.data[kept], counts.indices[kept], starts), shape=counts.shape)
    row, column = np.nonzero(wanted)
    if not len(row):
        return others
    added = csr_matrix((wanted[row, column].astype(np.float32), (row, genes[column])), shape=counts.shape)
    edited = csr_matrix(others + added)
    edited.sort_indices()
    return edited
