"""Cell lines of an AnnData by name, each with our embedding of its expression."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float32, Shaped

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import Pool
from xtrimogene.data.counts import SampleKind
from xtrimogene.errors import CountsError, FieldError
from xtrimogene.inference import Inference
from xtrimogene.tl.embedding import read_vectors


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CellLines:
    """Names, vectors and, where asked for, tissues of lines; ``record`` says how the vectors were made."""

    names: tuple[str, ...]
    vectors: Float32[np.ndarray, "L C"]
    tissues: Shaped[np.ndarray, " L"] | None
    record: Mapping[str, Any]


def read_cell_lines(
    cell_lines: AnnData | str | os.PathLike[str],
    wanted: Sequence[str],
    model: PretrainedModel,
    *,
    kind: SampleKind,
    pool: Pool | None,
    tissue_key: str | None = None,
    device: str | None,
    min_genes: int,
    progress: bool,
) -> CellLines:
    """Embed the lines that a table names.

    Raises
    ------
    FieldError
        A line that is not among the names of ``cell_lines``, twice among them, or has no tissue.
    CountsError
        A line without expression in the model's genes.
    """
    found = read_vectors(
        cell_lines,
        Inference(model, device=device),
        model,
        kind=kind,
        pool=pool,
        min_genes=min_genes,
        progress=progress,
    )
    have = found.obs.index.astype(str)
    names = tuple(dict.fromkeys(wanted))
    if unknown := [name for name in names if name not in have]:
        raise FieldError(
            f"cell line {unknown[0]!r} (row {list(wanted).index(unknown[0])}) is not among the {len(have)} of "
            f"cell_lines{f', nor are {len(unknown) - 1} others' if unknown[1:] else ''}; its obs_names have "
            f"{', '.join(have[:3])}."
        )
    if twice := [name for name in names if (have == name).sum() > 1]:
        raise FieldError(f"cell line {twice[0]!r} is in cell_lines more than once; keep one profile of each.")
    rows = have.get_indexer(pd.Index(names))
    vectors = found.embedding[rows]
    if (unread := ~np.isfinite(vectors).all(axis=1)).any():
        raise CountsError(
            f"cell line {names[int(unread.argmax())]!r} has no expression in the model's genes; leave it out."
        )
    tissues = None
    if tissue_key is not None:
        if tissue_key not in found.obs.columns:
            raise FieldError(f"cell_lines has no column {tissue_key!r}; it has {', '.join(found.obs.columns)}.")
        column = found.obs[tissue_key].iloc[rows]
        if (bad := column.isna().to_numpy()).any():
            raise FieldError(f"cell line {names[int(bad.argmax())]!r} has no {tissue_key!r}; fill it in.")
        tissues = column.astype(str).to_numpy(dtype=np.str_)
    return CellLines(names=names, vectors=vectors, tissues=tissues, record=found.record)
