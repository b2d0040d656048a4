"""Counts of cells in groups, at most so many of each: what is read to say something of genes in kinds of cells."""

import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Bool, Int64
from scipy.sparse import csr_matrix, vstack

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.counts import InputKind
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import ConfigError, CountsError
from xtrimogene.inference import readable_cells
from xtrimogene.tl.reference_labels import text_column

ALL = "all"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GroupedCounts:
    """Cells x the model's genes, the number of each cell's group among ``names``, and which genes were measured."""

    counts: csr_matrix
    groups: Int64[np.ndarray, " B"]
    names: tuple[str, ...]
    measured: Bool[np.ndarray, " G"]
    normalized: bool
    record: dict[str, Any]


def read_groups(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel,
    group_key: str | None,
    *,
    layer: str | None,
    input_kind: InputKind,
    min_genes: int,
    min_cells: int,
    max_cells: int,
    seed: int,
) -> GroupedCounts:
    """Read at most ``max_cells`` cells of each group, drawn by ``seed``; cells without a group are left out.

    Raises
    ------
    FieldError
        No such column, or none of names.
    CountsError
        A group with fewer than ``min_cells`` cells that can be read.
    ConfigError
        ``min_cells`` is less than 2 or more than ``max_cells``.
    """
    if not 2 <= min_cells <= max_cells:
        raise ConfigError(f"min_cells={min_cells} and max_cells={max_cells}: at least 2, and no more than max_cells.")
    with open_cells(adata) as cells:
        text, given = _grouped(cells.obs, group_key, cells.num_cells)
        matched = MatchedCounts.find(cells, model.genes, layer=layer, input_kind=input_kind)
        matched.require(min_genes=min_genes, all_rows=isinstance(adata, AnnData))
        drawn = _draw(text, given, max_cells, seed)
        parts, rows = [], []
        for start, block in matched.blocks():
            kept = drawn[start : start + block.shape[0]] & readable_cells(block)
            parts.append(block[kept])
            rows.append(start + np.flatnonzero(kept))
        report = matched.report()
    names, groups = np.unique(text[np.concatenate(rows)], return_inverse=True)
    _require_cells(text[given], names, np.bincount(groups, minlength=len(names)), min_cells, group_key)
    options = {"layer": matched.choice.matrix, "group_key": group_key or "", "max_cells": max_cells, "seed": seed}
    return GroupedCounts(
        counts=vstack(parts, format="csr"),
        groups=groups.astype(np.int64),
        names=tuple(names.tolist()),
        measured=matched.match.measured,
        normalized=matched.normalized,
        record={
            "model": model.name,
            "sha256": model.sha256,
            "options": options,
            "genes": {"num_genes": report.num_genes, "num_matched_genes": report.num_matched_genes},
            "version": version("xtrimogene"),
        },
    )


def _grouped(obs: Any, group_key: str | None, num_cells: int) -> tuple[np.ndarray, Bool[np.ndarray, " N"]]:
    if group_key is None:
        return np.full(num_cells, ALL), np.ones(num_cells, dtype=bool)
    return text_column(obs, group_key, "the data")


def _draw(text: np.ndarray, given: Bool[np.ndarray, " N"], max_cells: int, seed: int) -> Bool[np.ndarray, " N"]:
    random, drawn = np.random.default_rng(seed), np.zeros(len(text), dtype=bool)
    for name in np.unique(text[given]):
        rows = np.flatnonzero(given & (text == name))
        drawn[rows if len(rows) <= max_cells else random.choice(rows, max_cells, replace=False)] = True
    return drawn


def _require_cells(
    asked: np.ndarray, names: np.ndarray, numbers: np.ndarray, min_cells: int, group_key: str | None
) -> None:
    found = dict(zip(names.tolist(), numbers.tolist(), strict=True))
    few = [f"{name!r} ({found.get(name, 0)})" for name in np.unique(asked).tolist() if found.get(name, 0) < min_cells]
    if few or not found:
        where = "the data" if group_key is None else f"obs[{group_key!r}]"
        raise CountsError(
            f"{', '.join(few) or 'no group'} of {where}: at least {min_cells} cells with counts are needed in each "
            "group (min_cells); leave the group out."
        )
