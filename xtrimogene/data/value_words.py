"""Say in words what the values of a matrix are and what to do about them."""

import numpy as np

from xtrimogene.data.value_checks import LARGEST_LOG, Findings, common_total

MANY_GENES = 200
GIVE_COUNTS = "give raw counts in X, in layers['counts'] or in raw"


def describe(found: Findings) -> tuple[str, str]:
    """Say what the values are, and what to do about it."""
    if found.fault is not None:
        row, text = found.fault
        scaled = ", so it is scaled or corrected data" if "negative" in text else ""
        return f"holds {text} in cell row {row:,}{scaled}", GIVE_COUNTS
    if found.is_empty:
        return "holds no value above zero", GIVE_COUNTS
    if found.fraction is None:
        return f"holds whole numbers up to {found.largest:,.0f}, which are counts", 'use input_kind="auto" or "counts"'
    if found.holds_log():
        return "looks like log1p of counts", f'use input_kind="auto", or {GIVE_COUNTS}'
    for base in ("2", "10"):
        if found.holds_log(base):
            return (
                f"looks like log{base}(1 + scaled counts), and natural logarithms are needed",
                f"multiply by np.log({base}), or {GIVE_COUNTS}",
            )
    return _describe_scaled(found)


def _describe_scaled(found: Findings) -> tuple[str, str]:
    total = _shared_total(found.totals)
    if total is not None and abs(total - 1e6) <= 1e4:
        return (
            "looks like TPM/CPM, not counts: every cell sums to 1e6",
            f'{GIVE_COUNTS}, or use kind="bulk" for bulk samples',
        )
    if total is not None:
        return f"looks scaled to {total:,.0f} per cell and not log-transformed", GIVE_COUNTS
    logged = _logged_total(found)
    if logged is not None:
        base, log_total = logged
        name = "log1p" if base == "e" else f"log{base}(1 + x)"
        return (
            f"looks like {name} of values that sum to {log_total:,.0f} per cell and are no multiples of a count "
            "(TPM, or corrected values)",
            f'{GIVE_COUNTS}, or use input_kind="log1p" to take natural logarithms as they are',
        )
    assert found.fraction is not None
    row, value = found.fraction
    return (
        f"holds fractional values ({value:.4g} in cell row {row:,}) that are neither counts nor log1p of counts",
        f"{GIVE_COUNTS}; round estimated counts with np.rint",
    )


def describe_as_log(found: Findings) -> tuple[str, str]:
    if found.fault is None and found.fraction is not None:
        return f"holds values up to {found.largest:,.6g}, too large for log1p values", 'use input_kind="auto"'
    return describe(found)


def describe_as_bulk(found: Findings) -> tuple[str, str]:
    if found.fault is None:
        return "looks like logarithms of expression", "give linear expression, such as counts or TPM"
    return describe(found)


def looks_logged(found: Findings, num_genes: int) -> bool:
    """Linear expression does not share a total only after the logarithm is undone, and some gene of many is large."""
    if found.fraction is None or _shared_total(found.totals) is not None:
        return False
    return _logged_total(found) is not None or (num_genes >= MANY_GENES and found.largest <= LARGEST_LOG)


def _logged_total(found: Findings) -> tuple[str, float] | None:
    """Return the base and total of values that share a total once the logarithm is undone."""
    for base, totals in found.log_totals.items():
        total = _shared_total(totals)
        if total is not None:
            return base, total
    return None


def _shared_total(totals: np.ndarray) -> float | None:
    """Return a total worth naming: shared by several cells, or one cell's if it is a customary one."""
    total = common_total(totals)
    if total is not None and len(totals) == 1 and not any(abs(total - usual) <= 0.01 * usual for usual in (1e4, 1e6)):
        return None
    return total
