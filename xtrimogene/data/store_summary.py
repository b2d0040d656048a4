"""What a cell store holds, in words, at most 80 wide."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xtrimogene.data.store_reader import StoreReader

_MOST_FILES = 20
_WIDTH = 80


def summarize(path: str | os.PathLike[str]) -> str:
    """Open a store and describe it; raises as `StoreReader`."""
    store = StoreReader(path)
    num_bytes = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
    size = f"{num_bytes / 1e6:,.1f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:,.1f} GB"
    expressed = int(store.lengths.sum())
    lines = [
        f"{path}: {store.num_cells:,} cells x {len(store.genes):,} genes, {size}",
        f"shuffled with seed {store.record.seed} in {store.num_datasets:,} datasets; at least "
        f"{store.record.min_genes:,} genes a cell, {expressed / max(1, store.num_cells):,.0f} on average",
        "",
        *_table(store.sources[:_MOST_FILES]),
    ]
    if len(store.sources) > _MOST_FILES:
        lines.append(f"... and {len(store.sources) - _MOST_FILES:,} files more")
    return "\n".join(lines)


def _table(sources: Sequence[dict[str, Any]]) -> list[str]:
    """One row a file; the columns are those that the files have."""
    heads = {"cells": "cells", "cells_left_out": "left out", "genes_measured": "genes", "donors": "donors"}
    heads |= {"batches": "batches"}
    shown = [key for key in heads if any(key in source for source in sources)]
    numbers = [[_number(source.get(key)) for key in shown] for source in sources]
    widths = [max(map(len, column)) for column in zip(*numbers, [heads[key] for key in shown], strict=True)]
    room = _WIDTH - sum(width + 2 for width in widths)
    names = [_shortened(str(source.get("file", "")), room) for source in sources]
    left = max(map(len, [*names, "file"]))
    rows = zip(["file", *names], [[heads[key] for key in shown], *numbers], strict=True)
    return [
        name.ljust(left) + "".join(f"  {cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for name, row in rows
    ]


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"


def _shortened(name: str, room: int) -> str:
    return name if len(name) <= room else f"...{name[3 - room :]}"
