"""Cells like a cell: an index of many on disk, and what is nearest in it."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData

from xtrimogene.checkpoint import PretrainedModel, load, require_new_folder
from xtrimogene.config import Pool
from xtrimogene.data.blocks import open_cells
from xtrimogene.errors import CheckpointError, ConfigError, FieldError
from xtrimogene.inference import Inference
from xtrimogene.tasks.cell_search.cell_index import CellIndex, IndexedCells, open_index, write_index
from xtrimogene.tasks.cell_search.cell_table import NAMES, TextColumn
from xtrimogene.tasks.cell_search.vector_index import VectorPrecision, check_precision, graph_class
from xtrimogene.tl.embedding import read_vectors, warn_of_unread

Cells: TypeAlias = AnnData | str | os.PathLike[str]
SOURCE = "source"
OWN = frozenset({"query", "rank", "score", "cell", SOURCE})  # columns of results
MANY_TEXTS = 1000  # of a column that is taken without being named


def build_index(
    cells: Cells | Sequence[Cells],
    folder: str | os.PathLike[str],
    *,
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    columns: Sequence[str] | None = None,
    precision: VectorPrecision = "float16",
    pool: Pool | None = None,
    read_depth: str | None = None,
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> CellIndex:
    """Embed cells once and keep their vectors in a folder, where `search` finds the nearest to any cell.

    Parameters
    ----------
    cells
        Cells x genes, or the path of an .h5ad or .zarr, or several of these; counts and genes are found as in `embed`.
    folder
        Must not exist yet, or be an empty folder.
    columns
        Columns of ``obs`` to keep beside the vectors, such as label, donor and study: results carry them, and
        `search` can filter by them. Default: those of text, whole numbers or truth values, with at most 1,000 of them,
        but for any that is called as a column of results is.
    precision
        Of a number of a vector: "float32", or "float16" for half of the size, or "int8" for a quarter.
    model, pool, read_depth, device, token_budget, min_genes
        As in `embed`.

    Returns
    -------
    The index, opened; `open_index` opens it again. Beside ``columns`` it has "source": the file of each cell.

    Raises
    ------
    FieldError
        A column that no source has, or that holds decimal numbers, or is called as one of the results'.
    ConfigError
        No cells, or none that can be read; the folder cannot be written; an option of `embed` that cannot be.
    MissingExtraError
        usearch is not installed: pip install 'xtrimogene[search]'.
    CheckpointError
        The folder holds something; or as in `embed`.
    CountsError, GeneMatchError, FileFormatError
        As in `embed`.

    Warns
    -----
    UserWarning
        As in `embed`; cells without counts in the model's genes are not in the index.
    """
    graph_class()
    sources = [cells] if isinstance(cells, AnnData | str | os.PathLike) else list(cells)
    check_precision(precision)
    if not sources:
        raise ConfigError("no cells were given; an index needs an AnnData, or the path of one.")
    require_new_folder(Path(folder))
    _check_columns(sources, columns)
    loaded = load(model)
    inference = Inference(loaded, device=device, token_budget=token_budget)
    options: dict[str, Any] = {"pool": pool or loaded.config.pool, "read_depth": read_depth or loaded.config.read_depth}

    def parts() -> Iterator[IndexedCells]:
        for source in sources:
            found = read_vectors(source, inference, loaded, **options, min_genes=min_genes, progress=progress)
            warn_of_unread(found)
            read = np.isfinite(found.embedding).all(axis=1)
            name = "AnnData" if isinstance(source, AnnData) else Path(source).name
            own = TextColumn(categories=(name,), codes=np.zeros(int(read.sum()), dtype=np.int32))
            yield IndexedCells(
                vectors=found.embedding[read],
                names=found.obs.index.to_numpy(dtype=str)[read],
                columns={SOURCE: own, **_text_columns(found.obs[read], columns)},
                source={"name": name, "cells": int(read.sum()), "genes": found.record["genes"]},
            )

    card = {"model": {"model": loaded.name, "sha256": loaded.sha256, "options": options}}
    return write_index(Path(folder), parts(), precision=precision, card=card, progress=progress)


def search(
    query: Cells,
    index: CellIndex | str | os.PathLike[str],
    *,
    k: int = 10,
    where: Mapping[str, str | Collection[str]] | None = None,
    exact: bool = False,
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> pd.DataFrame:
    """Find the k cells of an index that are most like each cell of the query.

    Parameters
    ----------
    query
        Cells x genes, or the path of an .h5ad or .zarr; counts and genes are found as in `embed`. It is not changed.
    index
        What `build_index` or `open_index` returned, or the folder.
    where
        Only cells with these values: ``{"tissue": "blood", "donor": ["A", "B"]}``.
    exact
        Compare all cells instead of walking the graph, which misses some: for each million, 1.5 s and 20 ms a query.
    model
        The one that the index was built with.
    device, token_budget, min_genes
        As in `embed`.

    Returns
    -------
    A row for each answer, those of a query together and the nearest first: "query", its name in ``obs``; "rank", from
    1; "score", the cosine of the two vectors, counted from the index's mean; "cell", the name of the cell found; and
    the columns of the index, "source" among them. A cell without counts in the model's genes has no rows.

    Raises
    ------
    FieldError
        ``where`` names a column that the index does not have.
    ConfigError
        ``k`` is below 1, or a value of ``where`` is one that no cell has; an option of `embed` that cannot be.
    CheckpointError
        No such index, or one of another model's vectors; or as in `embed`.
    MissingExtraError
        usearch is not installed: pip install 'xtrimogene[search]'.
    CountsError, GeneMatchError, FileFormatError
        As in `embed`.
    """
    if k < 1:
        raise ConfigError(f"k={k} must be at least 1.")
    opened = index if isinstance(index, CellIndex) else open_index(index)
    loaded = load(model)
    made = opened.card["model"]
    if made["sha256"] != loaded.sha256:
        raise CheckpointError(
            f"{str(opened.folder)!r} holds vectors of {made['model']!r} (sha256 {made['sha256'][:12]}...), not of "
            f"{loaded.name!r} ({loaded.sha256[:12]}...); give that model, or build the index again."
        )
    allowed = None if where is None else opened.cells.allowed(where)
    inference = Inference(loaded, device=device, token_budget=token_budget)
    found = read_vectors(query, inference, loaded, **made["options"], min_genes=min_genes, progress=progress)
    warn_of_unread(found)
    read = np.flatnonzero(np.isfinite(found.embedding).all(axis=1))
    nearest = opened.vectors.search(found.embedding[read], k, allowed=allowed, exact=exact)
    there = nearest.rows >= 0
    taken = opened.cells.take(nearest.rows[there])
    names = found.obs.index.to_numpy(dtype=str)[read]
    table = {
        "query": np.repeat(names, there.sum(axis=1)),
        "rank": np.nonzero(there)[1] + 1,
        "score": nearest.scores[there],
        "cell": taken.pop(NAMES),
    }
    return pd.DataFrame(table | {name: pd.Categorical(values) for name, values in taken.items()})


def _check_columns(sources: Sequence[Cells], columns: Sequence[str] | None) -> None:
    """Refuse columns before long work."""
    if columns is None:
        return
    if taken := sorted(OWN.intersection(columns)):
        raise FieldError(f"columns holds {taken[0]!r}, which is what results call something else; rename it in obs.")
    missing = set(columns)
    for source in sources:
        with open_cells(source) as cells:
            missing -= set(_text_columns(cells.obs, columns))
    if missing:
        raise FieldError(f"no source has {sorted(missing)[0]!r} in obs; name a column that one of them has.")


def _text_columns(obs: pd.DataFrame, columns: Sequence[str] | None) -> dict[str, TextColumn]:
    """Return these columns, where there are, as text; by default those that may be labels."""
    found = {}
    for name in obs.columns if columns is None else [name for name in columns if name in obs]:
        column = obs[name]
        if isinstance(column, pd.DataFrame):
            raise FieldError(f"obs has {column.shape[1]} columns {name!r}; rename all but one.")
        coded = column.astype("category").cat.remove_unused_categories()
        if pd.api.types.is_float_dtype(coded.cat.categories.dtype):
            if columns is None:
                continue
            raise FieldError(f"obs[{name!r}] holds {coded.cat.categories.dtype} numbers; text is needed.")
        if columns is None and (name in OWN or len(coded.cat.categories) > MANY_TEXTS):
            continue
        texts = tuple(map(str, coded.cat.categories))
        found[str(name)] = TextColumn(categories=texts, codes=coded.cat.codes.to_numpy(dtype=np.int32))
    return found
