"""Cell types of a query, learned from a labelled reference."""

import os
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Shaped

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import FieldError
from xtrimogene.inference import Inference
from xtrimogene.tasks.annotation.annotator import Annotation, AnnotationMethod, Annotator, check_options
from xtrimogene.tl.embedding import read_vectors, warn_of_unread

UNKNOWN = "unknown"


def annotate(
    query: AnnData | str | os.PathLike[str],
    *,
    reference: AnnData | str | os.PathLike[str],
    label_key: str,
    group_key: str | None = None,
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    method: AnnotationMethod = "linear",
    error_rate: float = 0.1,
    novelty_rate: float = 0.05,
    key_added: str = "xtrimogene",
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> AnnData:
    """Write what each cell of the query is, and how sure that is, into ``query.obs``.

    Parameters
    ----------
    query, reference
        Cells x genes, or the path of an .h5ad or .zarr; counts and genes are found as in `embed`. The reference is not
        changed.
    label_key, group_key
        Columns of ``reference.obs``: the cell types (cells without one are not used), and the donor, study or batch.
        With groups, confidence is checked in groups that were not learned from; without, in other cells of the same.
    model
        As in `embed`.
    method
        "linear": logistic regression on the embedding. "knn": the 15 nearest cells of the reference vote.
    error_rate
        The share of cells, of those like the reference's, whose right label may be missing from the possible ones.
    novelty_rate
        The share of them that may be called unknown for lying far from the reference.
    key_added
        How the new columns begin.
    device, token_budget, min_genes
        As in `embed`.

    Returns
    -------
    ``query`` itself; for a path, a new AnnData with obs and uns, and without X. In ``obs``: ``xtrimogene_label``, with
    "unknown" for a cell of no type of the reference; ``xtrimogene_confidence``, the probability of the best label;
    ``xtrimogene_possible``, the labels that it may have, such as "CD4 T | CD8 T"; ``xtrimogene_unknown``. A cell
    without counts in the model's genes has none of them. ``uns["xtrimogene_annotation"]`` says how.

    Raises
    ------
    FieldError
        No such column in ``reference.obs``, or it holds no text.
    ConfigError
        Fewer than two labels, a rate that is none, or an option of `embed` that cannot be.
    CountsError, GeneMatchError, FileFormatError, CheckpointError
        As in `embed`.
    """
    check_options(method=method, error_rate=error_rate, novelty_rate=novelty_rate)
    labels, labelled, groups = _read_labels(reference, label_key, group_key)
    loaded = load(model)
    inference = Inference(loaded, device=device, token_budget=token_budget)
    _check_cells(query, loaded, min_genes)  # before the reference is embedded, which may take an hour
    known = read_vectors(reference, inference, loaded, min_genes=min_genes, progress=progress)
    annotator = Annotator.fit(
        known.embedding[labelled], labels[labelled], method=method, groups=None if groups is None else groups[labelled]
    )
    asked = read_vectors(query, inference, loaded, min_genes=min_genes, progress=progress)
    warn_of_unread(asked)
    annotation = annotator.annotate(asked.embedding, error_rate=error_rate, novelty_rate=novelty_rate)
    written = query if isinstance(query, AnnData) else AnnData(obs=asked.obs)
    for name, column in _columns(annotation, asked.obs.index).items():
        written.obs[f"{key_added}_{name}"] = column
    record: dict[str, Any] = {
        "method": method,
        "label_key": label_key,
        "group_key": group_key or "",
        "reference_cells": int(labelled.sum()),
        "labels": list(annotation.labels),
        "temperature": annotator.temperature,
        "error_rate": error_rate,
        "novelty_rate": novelty_rate,
        "reference": known.record,
    }
    written.uns[f"{key_added}_annotation"] = asked.record | record
    return written


def _read_labels(
    reference: AnnData | str | os.PathLike[str], label_key: str, group_key: str | None
) -> tuple[Shaped[np.ndarray, " N"], Bool[np.ndarray, " N"], Shaped[np.ndarray, " N"] | None]:
    """Return labels, which cells have one (and a group, where asked for), and groups."""
    with open_cells(reference) as cells:
        obs = cells.obs
    labels, labelled = _text(obs, label_key)
    if group_key is None:
        return labels, labelled, None
    groups, grouped = _text(obs, group_key)
    return labels, labelled & grouped, groups


def _check_cells(adata: AnnData | str | os.PathLike[str], model: PretrainedModel, min_genes: int) -> None:
    with open_cells(adata) as cells:
        MatchedCounts.find(cells, model.genes).require(min_genes=min_genes, all_rows=isinstance(adata, AnnData))


def _text(obs: pd.DataFrame, key: str) -> tuple[Shaped[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Return a column as text, and where it holds any."""
    if key not in obs:
        raise FieldError(f"the reference's obs has no {key!r}, it has {', '.join(map(str, obs.columns)) or 'nothing'}.")
    column = obs[key]
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if pd.api.types.is_float_dtype(column.dtype):
        raise FieldError(f"the reference's obs[{key!r}] holds {column.dtype} numbers; names are needed.")
    there = column.notna().to_numpy()
    return column.astype(str).to_numpy(dtype=str), there


def _columns(annotation: Annotation, index: pd.Index) -> dict[str, pd.Series]:
    names = list(dict.fromkeys([*annotation.labels, UNKNOWN]))
    chosen = np.where(annotation.novel, names.index(UNKNOWN), annotation.best)
    labels = pd.Categorical.from_codes(chosen.tolist(), categories=pd.Index(names))
    possible = [
        " | ".join(names[label] for label in np.flatnonzero(row)) if best >= 0 else None
        for row, best in zip(annotation.possible, annotation.best, strict=True)
    ]
    columns = {
        "label": labels,
        "confidence": annotation.confidence.astype(np.float32),
        "possible": pd.Categorical(possible),
        "unknown": annotation.novel,
    }
    return {name: pd.Series(column, index=index) for name, column in columns.items()}
