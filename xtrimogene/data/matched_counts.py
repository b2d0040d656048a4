"""The counts of some cells over the genes of a model: found, matched once, and read in blocks."""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_matrix, vstack

from xtrimogene.data.block_readers import SLICE, RowRange
from xtrimogene.data.blocks import CellBlocks
from xtrimogene.data.counts import CountsChoice, InputKind, SampleKind, find_counts, to_counts
from xtrimogene.data.gene_report import GeneReport, percent
from xtrimogene.data.gene_vocabulary import GeneMatch, GeneVocabulary
from xtrimogene.errors import CountsError

SAMPLE_ROWS = 10_000
STRANGE = 0.1  # share of a cell's counts; human plasma cells, full of immunoglobulin, go down to 0.12


class MatchedCounts:
    """Which matrix is read, as what (``choice``), and where its columns go (``match``); made by `find`."""

    def __init__(self, cells: CellBlocks, choice: CountsChoice, match: GeneMatch) -> None:
        self.cells, self.choice, self.match = cells, choice, match
        self.counts_per_column = np.zeros(len(match.target))  # of the rows read last
        self.num_read, self.num_strange = 0, 0  # of the rows read last: all, and those mostly of other genes

    @classmethod
    def find(
        cls,
        cells: CellBlocks,
        genes: GeneVocabulary,
        *,
        layer: str | None = None,
        input_kind: InputKind = "auto",
        kind: SampleKind = "single_cell",
    ) -> "MatchedCounts":
        """Choose the matrix and match its columns.

        Raises
        ------
        CountsError
            No matrix holds counts, or what can be turned into them.
        """
        choice = find_counts(cells, layer=layer, input_kind=input_kind, kind=kind)
        columns = {name: column.tolist() for name, column in cells.gene_columns(choice.matrix).items()}
        return cls(cells, choice, genes.match(columns))

    @property
    def normalized(self) -> bool:
        """Values are log1p already and nothing may normalise them again."""
        return self.choice.input_kind == "values"

    def require(self, *, min_genes: int, all_rows: bool) -> GeneReport:
        """Read all rows, or a sample of them, and return the gene report if enough is matched; as `require_of_read`."""
        for _ in self.blocks() if all_rows else self.sample():
            pass
        return self.require_of_read(min_genes=min_genes)

    def require_of_read(self, *, min_genes: int) -> GeneReport:
        """Return the gene report of the rows read last, if enough is matched.

        Raises
        ------
        CountsError
            There are cells and not one count.
        GeneMatchError
            Fewer than ``min_genes`` genes are matched, or they carry less than half of the counts.

        Warns
        -----
        UserWarning
            The matrix seems to hold selected genes only; or there are cells with nearly all counts in other genes.
        """
        if self.cells.num_cells and not self.counts_per_column.any():
            raise CountsError(
                f"{self.choice.matrix} of {self.cells.name} holds only zeros in the cells looked at; give counts."
            )
        report = self.match.require(self.counts_per_column, min_genes=min_genes)
        if 4 * report.num_columns < report.num_genes:
            warnings.warn(
                f"{self.choice.matrix} has {report.num_columns:,} genes and the model knows {report.num_genes:,}: if "
                "they were selected, give the matrix from before, as a cell's vector depends on all of its genes.",
                UserWarning,
                stacklevel=3,
            )
        if self.num_strange:
            warnings.warn(
                f"{self.num_strange:,} of {self.num_read:,} cells looked at have less than a tenth of their counts in "
                "the model's genes, as cells of another species have; do not trust their vectors.",
                UserWarning,
                stacklevel=3,
            )
        return report

    def blocks(
        self, max_cells: int | None = None, *, first_row: int = 0, max_nonzeros: int = SLICE
    ) -> Iterator[tuple[int, csr_matrix]]:
        """Read all cells: the first row of each block and its counts over the model's genes.

        Parameters
        ----------
        first_row
            The first row of a block: the blocks before it are not read.
        """
        ranges = self.cells.row_blocks(self.choice.matrix, max_nonzeros)
        return self._read(rows for rows in _at_most(max_cells, ranges) if rows[0] >= first_row)

    def rows(self, start: int, stop: int) -> csr_matrix:
        """Read a range of cells, over the model's genes; what has been read last stays what it is."""
        block = self.cells.block(self.choice.matrix, start, stop)
        return self.match.apply(to_counts(block, self.choice, start))

    def all(self) -> csr_matrix:
        """Read all cells into one matrix over the model's genes."""
        return vstack([block for _, block in self.blocks()], format="csr")

    def sample(self) -> Iterator[tuple[int, csr_matrix]]:
        """As `blocks`, of about 10,000 rows in evenly spaced blocks."""
        if self.cells.num_cells <= SAMPLE_ROWS:
            return self.blocks()
        return self._read(self.cells.sample_rows(SAMPLE_ROWS))

    def report(self) -> GeneReport:
        """Report on the rows read last; of all of them once `blocks` has ended.

        Warns
        -----
        UserWarning
            A sample had promised more than half of the counts, and all rows together have less.
        """
        report = self.match.report(self.counts_per_column)
        if report.share_of_counts is not None and report.share_of_counts < 1 / 2:
            warnings.warn(
                f"{percent(report.share_of_counts)} of the counts of all cells are in the model's genes, less "
                "than in the rows looked at first; do not trust the result.",
                UserWarning,
                stacklevel=2,
            )
        return report

    def _read(self, ranges: Iterator[RowRange] | Sequence[RowRange]) -> Iterator[tuple[int, csr_matrix]]:
        self.counts_per_column[:] = 0
        self.num_read = self.num_strange = 0
        for start, stop in ranges:
            block = to_counts(self.cells.block(self.choice.matrix, start, stop), self.choice, start)
            self.counts_per_column += np.bincount(block.indices, block.data, minlength=block.shape[1])
            matched = self.match.apply(block)
            whole = block @ self.match.is_gene.astype(np.float32)
            self.num_strange += int((np.asarray(matched.sum(axis=1)).ravel() < STRANGE * whole).sum())
            self.num_read += block.shape[0]
            yield start, matched


def _at_most(max_cells: int | None, ranges: Iterator[RowRange]) -> Iterator[RowRange]:
    for start, stop in ranges:
        step = max_cells or stop - start
        for first in range(start, stop, step):
            yield first, min(first + step, stop)
