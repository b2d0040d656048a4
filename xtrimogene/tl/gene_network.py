"""Which genes are tied in which cells."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Int64

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.data.counts import InputKind
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import GeneMatchError
from xtrimogene.evaluation.baselines import highly_variable_genes, log_normalize
from xtrimogene.inference import Inference
from xtrimogene.long_work import progress_bar
from xtrimogene.tasks.gene_network.gene_vectors import VectorMethod, gene_vectors
from xtrimogene.tasks.gene_network.top_edges import top_edges
from xtrimogene.tl.embedding import record_key
from xtrimogene.tl.grouped_counts import GroupedCounts, read_groups

NUM_GENES = 2000


def gene_network(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    *,
    genes: Sequence[str] | None = None,
    groupby: str | None = None,
    transcription_factors: Sequence[str] | None = None,
    method: VectorMethod = "covariation",
    top: int = 1000,
    min_weight: float | None = None,
    min_cells: int = 20,
    max_cells: int = 1000,
    seed: int = 0,
    layer: str | None = None,
    input_kind: InputKind = "auto",
    key_added: str = "xtrimogene_network",
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> pd.DataFrame:
    loaded = load(model)
    key = record_key(key_added)
    cells = read_groups(
        adata,
        loaded,
        groupby,
        layer=layer,
        input_kind=input_kind,
        min_genes=min_genes,
        min_cells=min_cells,
        max_cells=max_cells,
        seed=seed,
    )
    factors = None if transcription_factors is None else _known(transcription_factors, loaded.genes, cells)
    asked = _asked(genes, loaded.genes, cells, factors)
    inference = Inference(loaded, device=device, token_budget=token_budget)
    with progress_bar("Reading cells", len(cells.groups), shown=progress) as advance:
        vectors = gene_vectors(
            inference,
            cells.counts,
            method,
            genes=asked,
            groups=cells.groups,
            measured=cells.measured,
            normalized=cells.normalized,
            progress=advance,
        )
    sources = None if factors is None else np.searchsorted(asked, factors)
    symbols = np.array(loaded.genes.symbols)[asked]
    tables = []
    for name, own in zip(cells.names, vectors, strict=True):
        edges = top_edges(
            lambda rows, own=own: own[rows] @ own.T, len(asked), sources=sources, top=top, min_weight=min_weight
        )
        tables.append(
            pd.DataFrame(
                {
                    "source": symbols[edges.source],
                    "target": symbols[edges.target],
                    "weight": edges.weight,
                    "group": name,
                }
            )
        )
    table = pd.concat(tables, ignore_index=True)
    if isinstance(adata, AnnData):
        adata.uns[key] = {"edges": table, **cells.record, "method": method}
    return table


def _known(names: Sequence[str], vocabulary: GeneVocabulary, cells: GroupedCounts) -> Int64[np.ndarray, " T"]:
    """Return the places of those of the names that have a count in the cells."""
    places = np.unique(vocabulary.match({"genes": list(names)}).target)
    counted = np.asarray(cells.counts.sum(axis=0)).ravel() > 0
    kept = places[(places >= 0) & counted[places]]
    if not len(kept):
        raise GeneMatchError(
            f"none of the {len(names):,} transcription factors has a count in these cells; give symbols or Ensembl ids."
        )
    return kept


def _asked(
    names: Sequence[str] | None,
    vocabulary: GeneVocabulary,
    cells: GroupedCounts,
    factors: Int64[np.ndarray, " T"] | None,
) -> Int64[np.ndarray, " A"]:
    genes = highly_variable_genes(log_normalize(cells.counts), NUM_GENES) if names is None else vocabulary.places(names)
    return np.unique(genes if factors is None else np.concatenate([genes, factors]))
