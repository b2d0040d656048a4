"""Find the counts of an AnnData or file, say why these, and turn each block into counts, checked again."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.sparse import csr_matrix

from xtrimogene.data.blocks import CellBlocks
from xtrimogene.data.value_checks import (
    Findings,
    common_total,
    drop_zeros,
    first_fault,
    first_fraction,
    inspect,
    reverse_log,
)
from xtrimogene.data.value_words import GIVE_COUNTS, describe, describe_as_bulk, describe_as_log, looks_logged
from xtrimogene.errors import ConfigError, CountsError, FieldError

InputKind = Literal["auto", "counts", "log1p"]
SampleKind = Literal["single_cell", "bulk"]

_COUNT_LAYERS = ("counts", "raw_counts", "count", "raw", "umi", "umis", "umi_counts")
_SAMPLE_ROWS = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class CountsChoice:
    """Which matrix is used, and as what.

    ``input_kind`` says what the matrix holds: "counts"; "log1p", reversed to counts by `to_counts`; "values", log1p
    values that are taken as they are, so nothing may normalise them again; "bulk", linear expression. ``log_total`` is
    the total that log1p data were scaled to, where the cells share one.
    """

    matrix: str
    input_kind: Literal["counts", "log1p", "values", "bulk"]
    log_total: float | None = None
    reason: str


def find_counts(
    cells: CellBlocks, *, layer: str | None = None, input_kind: InputKind = "auto", kind: SampleKind = "single_cell"
) -> CountsChoice:
    """Choose the matrix that holds counts, by looking at about 2,000 evenly spaced cells.

    The order is X, then layers called counts, raw_counts or alike, then raw/X; first for counts, then for log1p of
    counts. Where raw/X has more genes than the one found and holds counts, or log1p that can be reversed to counts,
    raw/X is taken: genes left out change the totals.

    Parameters
    ----------
    cells
        From `open_cells`.
    layer
        Look only here: a layer's name, "X" or "raw".
    input_kind
        "auto" accepts counts and log1p of counts; "counts" only counts; "log1p" takes the values as given.
    kind
        "bulk" accepts any non-negative linear expression, TPM too.

    Raises
    ------
    CountsError
        No matrix qualifies; the message says what was found and what to do.
    FieldError
        `layer` is not there.

    Warns
    -----
    UserWarning
        With input_kind="log1p", values that do not look like logarithms.
    """
    for name, value, allowed in (("input_kind", input_kind, InputKind), ("kind", kind, SampleKind)):
        if value not in get_args(allowed):
            raise ConfigError(f"{name}={value!r} is none of {', '.join(map(repr, get_args(allowed)))}.")
    candidates = _candidates(cells, layer)
    num_genes = cells.num_columns(candidates[0])
    if cells.num_cells == 0 or num_genes == 0:
        raise CountsError(f"{cells.name} is empty: {cells.num_cells:,} cells x {num_genes:,} genes; give cells.")
    looked = _Looked(cells, candidates)
    if input_kind == "log1p":
        return looked.choose_values()
    if kind == "bulk" and input_kind == "auto":
        return looked.choose_bulk()
    return looked.choose_counts(reverse=input_kind == "auto")


def to_counts(block: csr_matrix, choice: CountsChoice, first_row: int = 0) -> csr_matrix:
    """Turn a block of the chosen matrix into float32 counts without stored zeros, and check every value of it.

    Parameters
    ----------
    block
        Rows of ``choice.matrix``; it stays as it is.
    choice
        From `find_counts`; with "values" and "bulk" the values are checked and returned unchanged.
    first_row
        The cell row the block starts at, for messages.

    Raises
    ------
    CountsError
        A value is negative, NaN, infinite, or not what the choice says; the message names its cell row.
    """
    with np.errstate(over="ignore"):  # becomes infinite and is refused as such
        block = drop_zeros(block.astype(np.float32, copy=False))
    fault = first_fault(block)
    if fault is not None:
        raise CountsError(f"{choice.matrix} holds {fault[1]} in cell row {first_row + fault[0]:,}; {GIVE_COUNTS}.")
    if choice.input_kind == "counts":
        fraction = first_fraction(block)
        if fraction is not None:
            row, value = first_row + fraction[0], fraction[1]
            raise CountsError(f"{choice.matrix} holds {value:.6g} in cell row {row:,}, no whole number; {GIVE_COUNTS}.")
    elif choice.input_kind == "log1p":
        block, wrong = reverse_log(block)
        if wrong is not None:
            row = first_row + wrong
            raise CountsError(
                f"{choice.matrix} is log1p of counts elsewhere, but cell row {row:,} is not: no multiples "
                f"of its smallest value; {GIVE_COUNTS}."
            )
    return block


def _candidates(cells: CellBlocks, layer: str | None) -> list[str]:
    there = cells.matrices
    if layer is not None:
        for name in (f"layers/{layer}", {"raw": "raw/X"}.get(layer, layer)):
            if name in there:
                return [name]
        raise FieldError(f"{cells.name} has no layer {layer!r}; it has {', '.join(there) or 'no matrix'}.")
    named = {name.removeprefix("layers/").lower(): name for name in there if name.startswith("layers/")}
    order = ["X", *(named[known] for known in _COUNT_LAYERS if known in named), "raw/X"]
    found = [name for name in order if name in there]
    if not found:
        raise CountsError(
            f"{cells.name} has no X and no raw; name a layer with layer=, it has {', '.join(there) or 'none'}."
        )
    return found


class _Looked:
    """The candidates of one source, each looked at once and only when its turn comes."""

    def __init__(self, cells: CellBlocks, candidates: list[str]) -> None:
        self.cells, self.candidates = cells, candidates
        self._findings: dict[str, Findings] = {}

    def at(self, matrix: str) -> Findings:
        if matrix not in self._findings:
            self._findings[matrix] = inspect(self._sample(matrix))
        return self._findings[matrix]

    def _sample(self, matrix: str) -> Iterator[tuple[int, csr_matrix]]:
        ranges = self.cells.sample_rows(_SAMPLE_ROWS)
        for (start, _), block in zip(ranges, self.cells.read_blocks(matrix, ranges), strict=True):
            yield start, block

    def first(self, fits: Callable[[Findings], bool]) -> str | None:
        for matrix in self.candidates:
            if fits(self.at(matrix)):
                return "raw/X" if self._raw_has_more(matrix) and fits(self.at("raw/X")) else matrix
        return None

    def _raw_has_more(self, matrix: str) -> bool:
        return "raw/X" in self.candidates and self.cells.num_columns("raw/X") > self.cells.num_columns(matrix)

    def choose_counts(self, *, reverse: bool) -> CountsChoice:
        matrix = self.first(lambda found: found.holds_counts)
        if matrix is not None and reverse and self._raw_has_more(matrix) and self.at("raw/X").holds_log():
            return self._reversed("raw/X")
        if matrix is not None:
            reason = f"whole numbers up to {self.at(matrix).largest:,.0f}{self._instead(matrix)}"
            return CountsChoice(matrix=matrix, input_kind="counts", reason=f"{matrix} holds {reason}")
        matrix = self.first(lambda found: found.holds_log()) if reverse else None
        if matrix is not None:
            return self._reversed(matrix)
        matrix = self.first(lambda found: found.is_empty)
        if matrix == self.candidates[0]:
            return CountsChoice(matrix=matrix, input_kind="counts", reason=f"{matrix} holds no value above zero")
        raise self._refusal(describe)

    def _reversed(self, matrix: str) -> CountsChoice:
        total = common_total(self.at(matrix).log_totals["e"])
        scale = f"scaled to {total:,.0f} per cell" if total else "of no common total"
        reason = f"{matrix} holds log1p of counts {scale}, reversed to counts{self._instead(matrix)}"
        return CountsChoice(matrix=matrix, input_kind="log1p", log_total=total, reason=reason)

    def choose_values(self) -> CountsChoice:
        matrix = self.first(lambda found: found.is_log1p)
        if matrix is None:
            matrix = self.first(lambda found: found.fault is None and not found.is_empty)
            if matrix is None:
                raise self._refusal(describe)
            warnings.warn(f"{matrix} {describe_as_log(self.at(matrix))[0]}; taken as log1p, as asked.", stacklevel=3)
        return CountsChoice(matrix=matrix, input_kind="values", reason=f"{matrix} is taken as log1p values, as asked")

    def choose_bulk(self) -> CountsChoice:
        num_genes = self.cells.num_columns(self.candidates[0])
        matrix = self.first(lambda found: found.fault is None and not looks_logged(found, num_genes))
        if matrix is None:
            raise self._refusal(describe_as_bulk)
        reason = f"{matrix} holds non-negative expression{self._instead(matrix)}"
        return CountsChoice(matrix=matrix, input_kind="bulk", reason=reason)

    def _instead(self, matrix: str) -> str:
        """Why an earlier candidate was passed over."""
        first = self.candidates[0]
        if matrix == first:
            return ""
        found, taken = self.at(first), self.at(matrix)
        if found.holds_counts or (found.holds_log() and not taken.holds_counts):  # as good, but fewer genes
            return f", and {self.cells.num_columns(matrix):,} genes where {first} has {self.cells.num_columns(first):,}"
        return f"; {first} {describe(found)[0]}"

    def _refusal(self, describe: Callable[[Findings], tuple[str, str]]) -> CountsError:
        matrix = self.candidates[0]
        found, remedy = describe(self.at(matrix))
        others = ", ".join(self.candidates[1:])
        also = f" ({others} will not do either)" if others else ""
        unseen = [name.removeprefix("layers/") for name in self.cells.matrices if name not in self.candidates]
        hint = f" Layers not looked at, for layer=: {', '.join(unseen[:5])}." if unseen else ""
        return CountsError(f"{self.cells.name}: {matrix} {found}{also}; {remedy}.{hint}")
