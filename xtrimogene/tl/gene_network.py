"""Which genes are tied, in which cells, and which modules they form."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Shaped

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.data.counts import InputKind
from xtrimogene.data.gene_sets import GeneSets, read_gene_sets
from xtrimogene.errors import ConfigError
from xtrimogene.inference import Inference
from xtrimogene.long_work import progress_bar
from xtrimogene.tasks.gene_network import network
from xtrimogene.tasks.gene_network.gene_vectors import VectorMethod, gene_vectors
from xtrimogene.tasks.gene_network.modules import find_modules, graph_package
from xtrimogene.tasks.gene_network.network import NetworkMethod
from xtrimogene.tasks.gene_network.top_edges import Edges
from xtrimogene.tl.embedding import record_key
from xtrimogene.tl.gene_choice import choose_genes, known_factors
from xtrimogene.tl.grouped_counts import read_groups
from xtrimogene.tl.module_tables import enrichment_table, module_scores


def gene_network(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    *,
    genes: Sequence[str] | None = None,
    group_key: str | None = None,
    transcription_factors: Sequence[str] | None = None,
    method: NetworkMethod | None = None,
    top: int = 1000,
    min_weight: float | None = None,
    min_share: float = 0.1,
    min_cells: int = 20,
    max_cells: int = 300,
    seed: int = 0,
    layer: str | None = None,
    input_kind: InputKind = "auto",
    key_added: str = "xtrimogene_network",
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> pd.DataFrame:
    """Return the heaviest edges between genes, in each group of cells.

    What varies together is not what regulates: of the known targets of a transcription factor few are among its
    heaviest edges, with our models as with any that reads expression alone (benchmarks/results/gene_network.md).

    Parameters
    ----------
    adata, model, layer, input_kind, device, token_budget, min_genes
        As in `embed`.
    genes
        Symbols or Ensembl ids. Default: the 2,000 most variable in the cells read.
    group_key
        Column of ``obs``, such as the cell type, with a network for each of its names. Cells without one are left out.
    transcription_factors
        Symbols or Ensembl ids: edges go from these alone, to all genes. Those without a count here are left out.
    method
        "factors": how the genes vary together in all that the model was trained on; the cells at hand only choose the
        genes. "covariation": that, with more weight on how the cells of a group vary. These two found known targets
        best, and need a model with a latent cell vector. "context": how alike the decoder's embeddings of the
        genes are in these cells. "attention": how much more than evenly the encoder attends to the source when it reads
        the target. Default: "covariation" with ``group_key``; without, "factors", or "context" where the model has
        none.
    top
        Edges of each group, the heaviest.
    min_weight
        Leave out lighter ones. Weights of two methods, or models, are on scales of their own.
    min_share
        Leave out genes, in a group, that a smaller share of its cells expresses.
    min_cells, max_cells, seed
        Refuse a group of fewer cells; of a larger one read so many, drawn by ``seed``.
    key_added
        The key in ``uns``.

    Returns
    -------
    A row for each edge, the heaviest of each group first: source, target (symbols), weight, group ("all" without
    ``group_key``). An edge has a direction where it starts from a transcription factor, or by "attention"; else each
    pair is there once. An AnnData also gets it, with how it was made, in ``uns[key_added]``.

    Raises
    ------
    GeneMatchError
        A name in ``genes`` is none of the model's; no transcription factor has a count; or as in `embed`.
    FieldError
        There is no column ``group_key``, or none of names.
    CountsError
        A group has too few cells that can be read; or as in `embed`.
    ConfigError
        The method is none, or the model has not what it needs; no edge is as heavy as ``min_weight``.

    Warns
    -----
    UserWarning
        A group has no edge.
    """
    key, loaded = record_key(key_added), load(model)
    chosen = _method(method, loaded, group_key)
    cells = read_groups(
        adata,
        loaded,
        group_key,
        layer=layer,
        input_kind=input_kind,
        min_genes=min_genes,
        min_cells=min_cells,
        max_cells=max_cells,
        seed=seed,
    )
    factors = None if transcription_factors is None else known_factors(transcription_factors, loaded.genes, cells)
    asked = choose_genes(genes, loaded.genes, cells, factors)
    inference = Inference(loaded, device=device, token_budget=token_budget)
    with progress_bar("Reading cells", len(cells.groups), shown=progress) as advance:
        found = network.gene_network(
            inference,
            cells.counts,
            chosen,
            genes=asked,
            groups=cells.groups,
            is_source=None if factors is None else np.isin(asked, factors),
            measured=cells.measured,
            normalized=cells.normalized,
            top=top,
            min_weight=min_weight,
            min_share=min_share,
            progress=advance,
        )
    table = _table(found, np.array(loaded.genes.symbols)[asked], cells.names)
    if isinstance(adata, AnnData):
        adata.uns[key] = {"edges": table, "method": chosen, **cells.record}
    return table


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GeneModules:
    """What `gene_modules` finds.

    ``genes``: gene, module. ``enrichment``: module and gene_set, for sets that a module holds more of than by chance.
    ``scores``: modules x groups; the mean expression of a module's genes in the group less that in all cells read, of
    each gene in standard deviations.
    """

    genes: pd.DataFrame
    enrichment: pd.DataFrame
    scores: pd.DataFrame


def gene_modules(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    *,
    genes: Sequence[str] | None = None,
    group_key: str | None = None,
    gene_sets: str | os.PathLike[str] | GeneSets | None = None,
    method: VectorMethod | None = None,
    resolution: float = 1.0,
    min_size: int = 10,
    max_p: float = 0.05,
    min_cells: int = 20,
    max_cells: int = 300,
    seed: int = 0,
    layer: str | None = None,
    input_kind: InputKind = "auto",
    key_added: str = "xtrimogene_modules",
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> GeneModules:
    """Find modules of genes that are tied to each other, and say what they are.

    Each gene is joined to its 15 nearest, and Leiden finds the modules (Traag et al. 2019); they are those of all cells
    read, not of one group.

    Parameters
    ----------
    adata, model, layer, input_kind, device, token_budget, min_genes
        As in `embed`.
    genes, min_cells, max_cells, seed
        As in `gene_network`; ``seed`` is Leiden's too.
    group_key
        Column of ``obs``: score the modules in each of its groups of cells. Cells without one are left out.
    gene_sets
        A .gmt file, or a dictionary of lists: test each module for each set of 5 to 500 of the genes asked
        (hypergeometric, Benjamini and Hochberg's correction). The background is the genes asked, not the genome.
    method
        As in `gene_network`. Default: "factors", or "context" where the model has no latent cell vector.
    resolution
        Larger for more and smaller modules.
    min_size
        Genes of a smaller module are in none.
    max_p
        Return sets with an adjusted p up to this.
    key_added
        The key in ``uns``.

    Returns
    -------
    Three tables (`GeneModules`), which an AnnData also gets, with how they were made, in ``uns[key_added]``. Modules
    are numbered from 0, the largest; a gene of none has -1. Without ``group_key`` the scores have no column, and
    without ``gene_sets`` nothing is enriched.

    Raises
    ------
    MissingExtraError
        igraph is not installed: pip install 'xtrimogene[graph]'.
    FileFormatError
        The .gmt is missing or damaged; or as in `embed`.
    ConfigError
        A number that is none; no module is as large as ``min_size``; no set has 5 genes among those asked.
    GeneMatchError, FieldError, CountsError
        As in `gene_network`.
    """
    graph_package()
    key, loaded = record_key(key_added), load(model)
    chosen = _method(method, loaded, None)
    if chosen == "attention":
        raise ConfigError("modules are found by vectors of genes: method='factors', 'covariation' or 'context'.")
    sets = None if gene_sets is None else read_gene_sets(gene_sets)
    cells = read_groups(
        adata,
        loaded,
        group_key,
        layer=layer,
        input_kind=input_kind,
        min_genes=min_genes,
        min_cells=min_cells,
        max_cells=max_cells,
        seed=seed,
    )
    asked = choose_genes(genes, loaded.genes, cells, None)
    inference = Inference(loaded, device=device, token_budget=token_budget)
    with progress_bar("Reading cells", len(cells.groups), shown=progress) as advance:
        (vectors,) = gene_vectors(
            inference,
            cells.counts,
            chosen,
            genes=asked,
            groups=np.zeros_like(cells.groups),
            measured=cells.measured,
            normalized=cells.normalized,
            progress=advance,
        )
    modules = find_modules(vectors, resolution=resolution, min_size=min_size, seed=seed)
    found = GeneModules(
        genes=pd.DataFrame({"gene": np.array(loaded.genes.symbols)[asked], "module": modules}),
        enrichment=enrichment_table(modules, asked, loaded.genes, sets, max_p),
        scores=module_scores(modules, asked, cells, scored=group_key is not None),
    )
    if isinstance(adata, AnnData):
        tables = {"genes": found.genes, "enrichment": found.enrichment, "scores": found.scores}
        adata.uns[key] = {**tables, "method": chosen, "resolution": resolution, **cells.record}
    return found


def _method(method: NetworkMethod | None, model: PretrainedModel, group_key: str | None) -> NetworkMethod:
    if method is None:
        if model.config.latent_dim is None or model.config.pool != "latent":
            return "context"
        return "factors" if group_key is None else "covariation"
    if method not in get_args(NetworkMethod):
        raise ConfigError(f"method={method!r} is not one of {', '.join(get_args(NetworkMethod))}.")
    if method == "factors" and group_key is not None:
        raise ConfigError("method='factors' is the same in all cells; leave group_key out, or take 'covariation'.")
    return method


def _table(found: list[Edges], symbols: Shaped[np.ndarray, " A"], names: Sequence[str]) -> pd.DataFrame:
    tables = [
        pd.DataFrame(
            {"source": symbols[own.source], "target": symbols[own.target], "weight": own.weight, "group": name}
        )
        for name, own in zip(names, found, strict=True)
    ]
    table = pd.concat(tables, ignore_index=True)
    without = [name for name, own in zip(names, found, strict=True) if not len(own)]
    if table.empty:
        raise ConfigError(
            "no edge is as heavy as min_weight, or between genes that min_share of the cells express; ask for less."
        )
    if without:
        warnings.warn(
            f"{', '.join(without)}: no edge there; min_weight or min_share leave none.", UserWarning, stacklevel=3
        )
    return table
