"""Cells and answers as JSON, for curl and the like: small, and slow.

``{"cells": [{"CD3D": 3, "MS4A1": 1}, ...], "genes": ["CD3D", ...]}``: ``genes`` lists all that were measured; without
it, only those that some cell names were. ``"names"`` may name the cells.
"""

import json
import math
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from xtrimogene.errors import FileFormatError, LimitError
from xtrimogene.serving.limits import Limits
from xtrimogene.serving.wire import Answer, WireCells, checked_genes, plain

JSON = "application/json"
_FORM = '{"cells": [{"CD3D": 3, "MS4A1": 1}, ...], "genes": ["CD3D", ...]}'


def read_json_cells(body: bytes, limits: Limits) -> WireCells:
    """Read a request body.

    Raises
    ------
    FileFormatError
        It is no JSON of cells.
    LimitError
        More cells, genes or values than the limits allow.
    """
    try:
        document = json.loads(body, object_pairs_hook=_once)
    except FileFormatError:
        raise
    except (ValueError, RecursionError):
        raise FileFormatError(f"The body is no JSON; {_FORM} is needed.") from None
    if not isinstance(document, dict) or not isinstance(document.get("cells"), list):
        raise FileFormatError(f"The body holds no list of cells; {_FORM} is needed.")
    cells = document["cells"]
    if len(cells) > limits.max_cells:
        raise LimitError(f"The body holds more than the {limits.max_cells:,} cells that one request may have.")
    strange = sorted(set(document) - {"cells", "genes", "names"})
    if strange:
        raise FileFormatError(f"The body has the field {strange[0][:80]!r}; cells, genes and names are known.")
    for row, cell in enumerate(cells):
        if not isinstance(cell, dict) or not all(_is_number(count) for count in cell.values()):
            raise FileFormatError(f"Cell {row} is no object of counts by gene; {_FORM} is needed.")
    listed = document.get("genes", list(dict.fromkeys(gene for cell in cells for gene in cell)))
    genes = checked_genes({"var_names": listed}, limits)
    place = {gene: number for number, gene in enumerate(listed)}
    unlisted = next((gene for cell in cells for gene in cell if gene not in place), None)
    if unlisted is not None:
        raise FileFormatError(f"A cell has the gene {unlisted[:80]!r}, which is not among genes; list all genes.")
    if len(place) < len(listed):
        raise FileFormatError("A gene is listed twice; list each gene once.")
    if sum(map(len, cells)) > limits.max_nonzeros:
        raise LimitError(f"The body holds more than the {limits.max_nonzeros:,} counts that one request may have.")
    indptr = np.cumsum([0, *map(len, cells)])
    indices = np.array([place[gene] for cell in cells for gene in cell], dtype=np.int64)
    with np.errstate(over="ignore"):  # becomes infinite, and is refused as such where counts are looked at
        values = np.array([_bounded(count) for cell in cells for count in cell.values()]).astype(np.float32)
    counts = csr_matrix((values, indices, indptr), shape=(len(cells), len(listed)))
    counts.sort_indices()
    return WireCells(counts=counts, genes=genes, names=_read_names(document.get("names"), len(cells)))


def write_json_answer(answer: Answer) -> bytes:
    columns = {name: _plain(column) for name, column in answer.columns.items()}
    return json.dumps({**answer.meta, **columns}, default=plain).encode()


def _plain(column: Any) -> Any:
    if isinstance(column, np.ndarray):
        column = column.tolist()
    if isinstance(column, list | tuple):
        return [_plain(one) for one in column]
    return None if isinstance(column, float) and not math.isfinite(column) else column


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise FileFormatError("The body gives the same name twice in one object; give each gene of a cell once.")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bounded(count: int | float) -> float:
    try:
        return float(count)
    except OverflowError:
        return math.inf


def _read_names(names: object, num_cells: int) -> list[str] | None:
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != num_cells or not all(isinstance(name, str) for name in names):
        raise FileFormatError(f"names must be a list of {num_cells:,} texts, one a cell.")
    return names
