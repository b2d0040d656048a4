"""What the values of a matrix are: counts, logarithms of scaled counts, or something that cannot be used.

Letters: c count, T total a cell was scaled to, n its own total, v = log(1 + c T / n) the stored value, x = c T / n.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import csr_matrix

from xtrimogene.data.block_readers import blocks_by_offsets

LARGEST_VALUE = 1e12  # beyond any count or intensity; keeps float32 sums finite
LARGEST_LOG = 30.0  # log1p of 1e13
RATIO_TOLERANCE = 1e-3
TOTAL_TOLERANCE = 2e-3
LOG_BASES = {"e": 1.0, "2": float(np.log(2)), "10": float(np.log(10))}
_FLOAT32_STEP = float(np.finfo(np.float32).eps)
_LOG_SLICE = 1_000_000  # values of one block that are reversed at once, in float64


def first_fault(block: csr_matrix) -> tuple[int, str] | None:
    """Find the first cell row with a value no input may have, and say which: negative, NaN, infinite, absurd."""
    data = block.data
    if not data.size or (data.min() >= 0 and data.max() <= LARGEST_VALUE):  # NaN fails both
        return None
    at = int(np.argmax(~((data >= 0) & (data <= LARGEST_VALUE))))
    value = float(data[at])
    if np.isnan(value):
        text = "a missing value (NaN)"
    elif np.isinf(value):
        text = "an infinite value"
    else:
        text = f"a negative value ({value:.4g})" if value < 0 else f"an impossible value ({value:.4g})"
    return row_of(block, at), text


def first_fraction(block: csr_matrix) -> tuple[int, float] | None:
    """Find the first value that is no whole number, and its cell row."""
    fractional = block.data != np.rint(block.data)
    if not fractional.any():
        return None
    at = int(np.argmax(fractional))
    return row_of(block, at), float(block.data[at])


def row_of(block: csr_matrix, position: int) -> int:
    return int(np.searchsorted(block.indptr, position, side="right")) - 1


def reverse_log(block: csr_matrix, base: str = "e") -> tuple[csr_matrix, int | None]:
    """Turn log(1 + scaled counts) back into counts: each x over the smallest x of its cell is a whole number.

    A value passes when x / smallest is within 1e-3 of a whole number, or within what float32 leaves of it. Storing v
    in float32 moves it by up to one step, 1.2e-7 v, so x by (1 + x) 1.2e-7 v, and x itself was rounded before:
    relative to x that is 1.2e-7 (1 + v (1 + x) / x). At ratio r the allowed difference is r times the sum of this for
    x and for the smallest; it passes 1e-3 at r of about 600. From 1/4 on (r of about 1e5: deep full-length reads) a
    value proves nothing and is only rounded, and at least half of the values of a cell must prove something.

    Parameters
    ----------
    block
        Stored values, all finite and non-negative.
    base
        "e", "2" or "10".

    Returns
    -------
    The counts in float32, and the first row that is no log of scaled counts; None if all are, else the counts mean
    nothing.
    """
    counts = csr_matrix((np.zeros_like(block.data, np.float32), block.indices, block.indptr), block.shape, copy=False)
    if block.data.size and block.data.max() * LOG_BASES[base] > LARGEST_LOG:
        return counts, row_of(block, int(block.data.argmax()))
    for start, stop in blocks_by_offsets(block.indptr, _LOG_SLICE):
        low, high = block.indptr[start], block.indptr[stop]
        logs = block.data[low:high].astype(np.float64) * LOG_BASES[base]
        lengths = np.diff(block.indptr[start : stop + 1])
        ratios, failed = _ratios(logs, lengths)
        if failed.any():
            return counts, start + int(np.argmax(failed))
        counts.data[low:high] = ratios
    return counts, None


def _ratios(logs: Float[np.ndarray, "N"], lengths: np.ndarray) -> tuple[Float[np.ndarray, "N"], Bool[np.ndarray, "B"]]:
    """Whole-number ratios to the smallest value of each cell, and which cells have values that are none."""
    failed = np.zeros(len(lengths), bool)
    if not logs.size:
        return logs, failed
    filled = np.flatnonzero(lengths)
    starts = (np.cumsum(lengths) - lengths)[filled]
    scaled = np.expm1(logs)  # x
    rounding = _FLOAT32_STEP * (1 + logs * (1 + scaled) / scaled)
    smallest = np.minimum.reduceat(scaled, starts)
    at_smallest = _FLOAT32_STEP * (1 + np.log1p(smallest) * (1 + smallest) / smallest)
    ratios = scaled / np.repeat(smallest, lengths[filled])
    allowed = ratios * (rounding + np.repeat(at_smallest, lengths[filled]))
    proving = allowed < 0.25
    whole = np.rint(ratios)
    wrong = proving & (np.abs(ratios - whole) > np.maximum(allowed, RATIO_TOLERANCE))
    num_proving = np.add.reduceat(proving.astype(np.int64), starts)
    failed[filled] = np.logical_or.reduceat(wrong, starts) | (2 * num_proving < lengths[filled])
    return whole, failed


@dataclass(kw_only=True)
class Findings:
    """What a sample of rows of one matrix looks like."""

    fault: tuple[int, str] | None = None
    fraction: tuple[int, float] | None = None
    not_log: set[str] = field(default_factory=set)  # the bases in which a cell is no logarithm of scaled counts
    largest: float = 0.0
    totals: Float[np.ndarray, "B"] = field(default_factory=lambda: np.empty(0))
    log_totals: dict[str, Float[np.ndarray, "B"]] = field(default_factory=dict)  # of exp(v) - 1, by base

    @property
    def holds_counts(self) -> bool:
        return self.fault is None and self.fraction is None and self.largest > 0

    @property
    def is_empty(self) -> bool:
        return self.fault is None and self.largest == 0

    def holds_log(self, base: str = "e") -> bool:
        return self.fault is None and self.fraction is not None and base not in self.not_log

    @property
    def is_log1p(self) -> bool:
        """Values that may be logarithms, whatever was scaled."""
        return self.fault is None and self.fraction is not None and self.largest <= LARGEST_LOG


def inspect(blocks: Iterable[tuple[int, csr_matrix]]) -> Findings:
    """Look at blocks of one matrix, each with the number of its first row; stops at a value that is never allowed."""
    findings = Findings()
    for first_row, block in _without_zeros(blocks):
        fault = first_fault(block)
        if fault is not None:
            findings.fault = (first_row + fault[0], fault[1])
            break
        findings.largest = max(findings.largest, float(block.data.max(initial=0)))
        fraction = first_fraction(block)
        if findings.fraction is None and fraction is not None:
            findings.fraction = (first_row + fraction[0], fraction[1])
        findings.totals = np.append(findings.totals, _row_sums(block, block.data.astype(np.float64)))
        if fraction is not None:
            _inspect_logs(findings, block)
    return findings


def _inspect_logs(findings: Findings, block: csr_matrix) -> None:
    for base, scale in LOG_BASES.items():
        if findings.largest * scale > LARGEST_LOG:
            findings.log_totals.pop(base, None)
            findings.not_log.add(base)
            continue
        scaled = _row_sums(block, np.expm1(block.data.astype(np.float64) * scale))
        findings.log_totals[base] = np.append(findings.log_totals.get(base, ()), scaled)
        if base not in findings.not_log and reverse_log(block, base)[1] is not None:
            findings.not_log.add(base)


def _without_zeros(blocks: Iterable[tuple[int, csr_matrix]]) -> Iterator[tuple[int, csr_matrix]]:
    for first_row, block in blocks:
        yield first_row, drop_zeros(block)


def drop_zeros(block: csr_matrix) -> csr_matrix:
    """Drop stored zeros; the block given stays as it is."""
    if block.data.all():
        return block
    block = block.copy()
    block.eliminate_zeros()
    return block


def common_total(totals: Float[np.ndarray, "B"]) -> float | None:
    """Return the total that all cells share within 0.2 % (TPM rounded to two digits sums to that), or None."""
    if not totals.size:
        return None
    middle = float(np.median(totals))
    return middle if np.abs(totals - middle).max() <= TOTAL_TOLERANCE * middle else None


def _row_sums(block: csr_matrix, values: Float[np.ndarray, "N"]) -> Float[np.ndarray, "B"]:
    """Sum each row that has values."""
    filled = np.diff(block.indptr) > 0
    return np.add.reduceat(values, block.indptr[:-1][filled]) if filled.any() else np.empty(0)
