"""Cells like a cell: an index of many on disk, and what is nearest in it."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float32

from xtrimogene.checkpoint import PretrainedModel, load, require_new_folder
from xtrimogene.config import Pool
from xtrimogene.errors import ConfigError, FileFormatError
from xtrimogene.inference import Inference
from xtrimogene.tasks.cell_search.cell_index import CellIndex, IndexedCells, open_index, write_index
from xtrimogene.tasks.cell_search.cell_space import place
from xtrimogene.tasks.cell_search.cell_table import TextColumn
from xtrimogene.tasks.cell_search.vector_index import VectorPrecision, check_precision, graph_class
from xtrimogene.tasks.expression_space import ExpressionSpace
from xtrimogene.tl.embedding import CellVectors, read_vectors, require_model, warn_of_unread
from xtrimogene.tl.index_sources import SOURCE, Source, SourcesSeen, look_at, text_columns


def build_index(
    cells: Source | Sequence[Source],
    folder: str | os.PathLike[str],
    *,
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    columns: Sequence[str] | None = None,
    expression: bool = True,
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
        `search` can filter by them. Default: those that hold text, whole numbers or truth values in every source that
        has them, with at most 1,000 of them, but for any that is called as a column of results is.
    expression
        Compare cells along axes of expression too (HVG + PCA of up to 20,000 of these cells, in the genes that all
        sources measured), with half of the embedding's weight: that finds cells of the right type better than either
        alone. What is searched for then has to have measured genes that hold half of these cells' counts.
    precision
        Of a number of a vector: "float32", or "float16" for half of the size, or "int8" for a quarter.
    model, pool, read_depth, device, token_budget, min_genes
        As in `embed`.

    Returns
    -------
    The index, opened; `open_index` opens it again. Beside ``columns`` it has "source": the file of each cell, by as
    much of its path as tells it from the others.

    Raises
    ------
    FieldError
        A column that no source has, or that holds decimal numbers, or is called as one of the results'; text that no
        file can hold.
    ConfigError
        No cells, or none that can be read; too few for axes of expression; a source given twice; the folder cannot be
        written; an option of `embed` that cannot be.
    MissingExtraError
        usearch is not installed: pip install 'xtrimogene[search]'.
    CheckpointError
        The folder holds something; or as in `embed`.
    CountsError, GeneMatchError, FileFormatError
        As in `embed`; a source was changed while the index was built.

    Warns
    -----
    UserWarning
        As in `embed`; cells without counts in the model's genes are not in the index.
    """
    graph_class()
    check_precision(precision)
    sources = [cells] if isinstance(cells, AnnData | str | os.PathLike) else list(cells)
    if isinstance(columns, str):
        raise ConfigError(f"columns={columns!r} is one text; a list is needed, such as [{columns!r}].")
    target = Path(folder).resolve()
    require_new_folder(target)
    loaded = load(model)
    seen = look_at(sources, loaded, columns=columns, expression=expression, min_genes=min_genes)
    inference = Inference(loaded, device=device, token_budget=token_budget)
    options: dict[str, Any] = {"pool": pool or loaded.config.pool, "read_depth": read_depth or loaded.config.read_depth}
    reading = {**options, "min_genes": min_genes, "progress": progress}
    parts = indexed_cells(seen, lambda source: _read_rows(source, inference, loaded, seen.expression, **reading))
    card = {"model": {"model": loaded.name, "sha256": loaded.sha256, "options": options}}
    return write_index(target, parts, expression=seen.expression, precision=precision, card=card, progress=progress)


def indexed_cells(
    seen: SourcesSeen, read: Callable[[Source], tuple[CellVectors, Float32[np.ndarray, "N W"]]]
) -> Iterator[IndexedCells]:
    """Yield the cells of each source, which ``read`` returns with where they lie: embedding, then axes.

    Raises
    ------
    FileFormatError
        A source was changed since it was looked at.

    Warns
    -----
    UserWarning
        Cells without counts in the model's genes are not among them.
    """
    for source, name, number, has in zip(seen.sources, seen.names, seen.num_cells, seen.columns_of, strict=True):
        found, rows = read(source)
        if len(found.obs) != number or not has <= set(map(str, found.obs.columns)):
            raise FileFormatError(f"{name} was changed while the index was built; build it again.")
        warn_of_unread(found, " and are not in the index")
        there = np.isfinite(found.embedding).all(axis=1)
        obs = found.obs[there]
        own = TextColumn(categories=(name,), codes=np.zeros(len(obs), dtype=np.int32))
        kept = text_columns(obs, sorted(has, key=seen.columns.index))
        yield IndexedCells(
            rows=rows[there],
            names=obs.index.astype(str).to_numpy(dtype=object),
            columns={SOURCE: own, **kept},
            source={"name": name, "cells": len(obs), "genes": found.record["genes"]},
        )


def search(
    query: Source,
    index: CellIndex | str | os.PathLike[str],
    *,
    k: int = 10,
    where: Mapping[str, object] | None = None,
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
        What `build_index` or `open_index` returned, or the folder; a folder is read through once to be opened, so open
        it yourself for many searches.
    where
        Only cells with these values, of each column one or several: ``{"tissue": "blood", "donor": ["A", "B"]}``.
    exact
        Compare all cells instead of walking the graph, which misses some: for each million, 3 s and 13 ms a query.
    model
        The one that the index was built with.
    device, token_budget, min_genes
        As in `embed`.

    Returns
    -------
    A row for each answer, those of a query together and the nearest first: "query", its name in ``obs``, and
    "query_row", where it stands there; "rank", from 1; "score", how alike they are, from -1 to 1: the cosine of
    embeddings counted from the index's mean and, with half of its weight, that of expression; "cell", the name of the
    cell found; and the columns of the index, "source" among them. A cell without counts in the model's genes has no
    rows.

    Raises
    ------
    FieldError
        ``where`` names a column that the index does not have.
    ConfigError
        ``k`` is no whole number above 0, or a value of ``where`` is one that no cell has; an option of `embed` that
        cannot be.
    CheckpointError
        No such index, or one of another model's vectors; or as in `embed`.
    MissingExtraError
        usearch is not installed: pip install 'xtrimogene[search]'.
    CountsError, GeneMatchError, FileFormatError
        As in `embed`; the query measured genes that hold less than half of the counts of the index's cells.

    Warns
    -----
    UserWarning
        As in `embed`.
    """
    if not isinstance(k, Integral) or k < 1:
        raise ConfigError(f"k={k!r} must be a whole number of at least 1.")
    if not isinstance(where or {}, Mapping):
        raise ConfigError(f"where={where!r}: values by column are needed, such as {{'tissue': 'blood'}}.")
    opened = index if isinstance(index, CellIndex) else open_index(index)
    loaded = load(model)
    made = opened.card["model"]
    require_model(made, loaded, f"{str(opened.folder)!r} holds", "build the index again")
    allowed = None if where is None else opened.cells.allowed(where)
    inference = Inference(loaded, device=device, token_budget=token_budget)
    found, rows = _read_rows(
        query, inference, loaded, opened.space.expression, **made["options"], min_genes=min_genes, progress=progress
    )
    warn_of_unread(found, " and are not searched for")
    read = np.flatnonzero(np.isfinite(found.embedding).all(axis=1))
    nearest = opened.vectors.search(opened.space.directions(rows[read]), k, allowed=allowed, exact=exact)
    names, texts = opened.cells.take(nearest.rows.ravel())
    query_row = np.repeat(read, nearest.rows.shape[1])
    table = {
        "query": found.obs.index.astype(str).to_numpy(dtype=object)[query_row],
        "query_row": query_row,
        "rank": np.tile(np.arange(nearest.rows.shape[1]) + 1, len(read)),
        "score": nearest.scores.ravel(),
        "cell": names,
    }
    return pd.DataFrame(table | {name: pd.Categorical(values) for name, values in texts.items()})


def _read_rows(
    cells: Source,
    inference: Inference,
    model: PretrainedModel,
    expression: ExpressionSpace | None,
    **reading: Any,
) -> tuple[CellVectors, Float32[np.ndarray, "N W"]]:
    """Return what was read, and of every cell its embedding and then its place along the axes."""
    placed = [np.zeros((0, 0 if expression is None else len(expression.components)), dtype=np.float32)]
    found = read_vectors(
        cells,
        inference,
        model,
        each=lambda block, measured: placed.append(place(expression, block, measured)),
        **reading,
    )
    return found, np.hstack([found.embedding, np.concatenate(placed)])
