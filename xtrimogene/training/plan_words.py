"""Sizes, times and rows of a plan, for 80 columns."""

import textwrap

GIB, MIB = 2**30, 2**20


def row(name: str, text: str) -> str:
    return textwrap.fill(text, 80, initial_indent=f"{name:<7} ", subsequent_indent=" " * 8)


def size_of(num_bytes: int | float) -> str:
    return f"{num_bytes / GIB:,.1f} GiB" if num_bytes >= GIB else f"{num_bytes / MIB:,.0f} MiB"


def count(number: int | float) -> str:
    if number < 1e6:
        return f"{float(f'{number:.2g}'):,.0f}"
    for unit, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= unit:
            return f"{number / unit:,.0f} {name}" if number >= 100 * unit else f"{number / unit:.3g} {name}"
    raise AssertionError(number)


def duration(hours: int | float) -> str:
    if hours < 1.5:
        return f"{max(60 * hours, 0.1):.2g} min"
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:,.0f} days"
