"""A screen and control cells, read and checked before anything is learned or predicted."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_matrix, vstack

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.blocks import CellBlocks, open_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import ConfigError, CountsError, FieldError, GeneMatchError
from xtrimogene.evaluation.baselines import log_normalize
from xtrimogene.inference import Inference
from xtrimogene.long_work import progress_bar
from xtrimogene.tasks.gene_states import mean_gene_embeddings
from xtrimogene.tasks.perturbation.cell_groups import deal_cells
from xtrimogene.tasks.perturbation.control_genes import ControlGenes
from xtrimogene.tasks.perturbation.effects import EffectSums
from xtrimogene.tasks.perturbation.gene_graph import edge_graph
from xtrimogene.tasks.perturbation.group_sums import GroupSums
from xtrimogene.tasks.perturbation.names import JOIN, canonical, parts_of
from xtrimogene.tl.reference_labels import text_column

KEPT_CONTROLS = 5_000  # control cells whose counts are kept, to say which genes are expressed together
ALL = "all cells"  # the context, where there is no group_key
LEAST_SHARE = 0.9  # of the predictor's expression, in the genes measured: with less, values are in other units


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Screen:
    """What is kept of cells whose perturbation and context are known: sums, and counts of some control cells.

    ``names`` are the perturbations of all cells used, ``genes`` the places of the measured ones in the model. The
    control cells are of the half that is learned from; ``rows`` are their numbers among ``sums.groups``.
    """

    names: Shaped[np.ndarray, " P"]
    genes: Int[np.ndarray, " M"]
    measured: Bool[np.ndarray, " G"]
    sums: EffectSums
    rows: Int[np.ndarray, " n"]
    counts: csr_matrix


def read_screen(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel,
    *,
    perturbation_key: str,
    control: str,
    group_key: str | None,
    min_cells: int,
    seed: int,
    reading: Mapping[str, Any],
) -> Screen:
    """Sum the cells that have a perturbation, and a group where asked for, under canonical names, block by block."""
    with open_cells(adata) as cells:
        obs = cells.obs
        names, used = text_column(obs, perturbation_key, "the screen")
        if control not in names:
            raise _no_control(names[used], perturbation_key, control)
        used |= names == control  # whatever it is called, "unknown" too
        context = np.full(len(names), ALL)
        if group_key is not None:
            context, grouped = text_column(obs, group_key, "the screen")
            used &= grouped
        if not (used & (names != control)).any():
            raise ConfigError(f"every cell of obs[{perturbation_key!r}] is {control!r}; perturbed cells are needed.")
        renamed = rename_parts(np.unique(names[used]).tolist(), control, model.genes)
        _warn_of_treatments(renamed, control, model.genes)
        if left := len(names) - int(used.sum()):
            warnings.warn(
                f"{left:,} of {len(names):,} cells have no perturbation or group and are not used.",
                UserWarning,
                stacklevel=3,
            )
        perturbation = np.array([renamed.get(name, control) for name in names.tolist()])
        groups = deal_cells(perturbation, context, control, used=used, min_cells=min_cells, seed=seed)
        found = _find(cells, model, reading)
        genes = np.flatnonzero(found.match.measured)
        sums, kept = EffectSums(groups, len(genes)), groups.draw_controls(KEPT_CONTROLS, seed)
        parts = []
        for start, block in found.blocks():
            sums.add(block[:, genes], start)
            here = kept[np.searchsorted(kept, start) : np.searchsorted(kept, start + block.shape[0])]
            parts.append(block[here - start])
        found.require_of_read(min_genes=reading["min_genes"])
    return Screen(
        names=np.unique(perturbation[used]),
        genes=genes,
        measured=found.match.measured,
        sums=sums,
        rows=kept,
        counts=csr_matrix(vstack(parts, format="csr")),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Controls:
    """Mean expression of control cells by context, and which of the predictor's genes are measured here."""

    context_names: tuple[str, ...]
    num_cells: Int[np.ndarray, " C"]
    expression: Float[np.ndarray, "C M"]
    measured: Bool[np.ndarray, " M"]

    def fill(self, usual: Float[np.ndarray, " M"]) -> Float[np.ndarray, "C M"]:
        """Return the expression, and of a gene that is not measured here the usual one."""
        return np.where(self.measured, self.expression, usual)


def read_controls(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel,
    card: Mapping[str, Any],
    genes: Int[np.ndarray, " M"],
    usual: Float[np.ndarray, " M"],
    *,
    group_key: str | None,
    min_cells: int,
    reading: Mapping[str, Any],
) -> Controls:
    """Average the control cells of each context over the predictor's genes, of which ``usual`` is the expression."""
    key, control = card["perturbation_key"], card["control"]
    with open_cells(adata) as cells:
        obs = cells.obs
        used = np.ones(cells.num_cells, dtype=bool)
        if key in obs:
            names, _ = text_column(obs, key, "adata")
            used = names == control
            if not used.any():
                raise _no_control(names, key, control)
        groups = np.full(cells.num_cells, ALL)
        if group_key is not None:
            groups, grouped = text_column(obs, group_key, "adata")
            used &= grouped
        if not used.any():
            raise ConfigError("no control cell has a group; look at group_key.")
        names, place = np.unique(groups[used], return_inverse=True)
        group = np.full(cells.num_cells, -1)
        group[used] = place
        sizes = np.bincount(place)
        few = int(sizes.argmin())
        if sizes[few] < min_cells:
            raise CountsError(
                f"{str(names[few])!r} has {sizes[few]} control cells, and at least {min_cells} are needed (min_cells)."
            )
        found = _find(cells, model, reading)
        sums = GroupSums(len(names), len(genes))
        for start, block in found.blocks():
            sums.add(log_normalize(block[:, genes]), group[start : start + block.shape[0]])
        found.require_of_read(min_genes=reading["min_genes"])
    measured = found.match.measured[genes]
    held = float(np.expm1(usual[measured]).sum() / np.expm1(usual).sum())
    if held < LEAST_SHARE:
        raise GeneMatchError(
            f"{int(measured.sum()):,} of the {len(measured):,} genes that the predictor knows are measured here, and "
            f"they hold about {held:.0%} of its control cells' expression; at least {LEAST_SHARE:.0%} are needed, as "
            "expression is counted per 10,000 of all of them."
        )
    return Controls(
        context_names=tuple(names.tolist()),
        num_cells=sizes,
        expression=sums.means(),
        measured=measured,
    )


def control_genes(
    screen: Screen, inference: Inference, graph: csr_matrix | None, most: int, *, seed: int, progress: bool
) -> ControlGenes:
    """Return what control cells say of genes; states are means over ``most`` of them at most, the same in each context.

    Only the half that is learned from is read, so that nothing is known of the cells that judge.
    """
    groups = screen.sums.groups
    context, chosen = groups.place[screen.rows], np.isin(screen.rows, groups.draw_controls(most, seed))
    with progress_bar("Gene states of control cells", int(chosen.sum()), shown=progress) as advance:
        states = mean_gene_embeddings(
            inference, screen.counts[chosen], groups=context[chosen], measured=screen.measured, progress=advance
        )
    return ControlGenes(
        context_names=groups.context_names,
        states=states,
        values=log_normalize(screen.counts[:, screen.genes]),
        context=context,
        graph=graph,
    )


def rename_parts(names: Sequence[str], control: str, genes: GeneVocabulary) -> dict[str, str]:
    """Return the canonical name of each perturbation, its genes by the model's symbols.

    A gene is known by its exact symbol or Ensembl id only: "LPS" is an alias of IRF6, and a treatment.

    Raises
    ------
    ConfigError
        Two names, such as a symbol and an id, are one gene.

    Warns
    -----
    UserWarning
        A name is an alias or a previous symbol of a gene; it is taken for no gene.
    """
    parts = {name: parts_of(name, control) for name in names if name != control}
    every = sorted({part for own in parts.values() for part in own})
    exact = exact_places(every, genes, warn=True).tolist()
    symbol = {part: genes.symbols[place] if place >= 0 else part for part, place in zip(every, exact, strict=True)}
    given: dict[str, str] = {}
    for name, gene in symbol.items():
        if (other := given.setdefault(gene, name)) != name:
            raise ConfigError(f"{other!r} and {name!r} are one gene, {gene}; give it one name.")
    renamed = {
        name: canonical(JOIN.join(symbol[part] for part in own) or control, control) for name, own in parts.items()
    }
    return renamed | {name: control for name in names if name == control}


def exact_places(parts: Sequence[str], genes: GeneVocabulary, *, warn: bool = False) -> Int[np.ndarray, " P"]:
    """Return where genes of exactly these symbols or Ensembl ids are in the model, -1 for a name that is none."""
    if not len(parts):
        return np.zeros(0, dtype=np.int64)
    match = genes.match({"gene": parts})
    exact = np.isin(match.rule, ("symbol", "ensembl_id"))
    alike = [
        f"{part!r} ({genes.symbols[place]})"
        for part, place in zip(parts, np.where(exact, -1, match.target).tolist(), strict=True)
        if place >= 0
    ]
    if warn and alike:
        warnings.warn(
            f"{', '.join(alike)}: an alias of this gene, and taken for no gene, as it may be a treatment; if the gene "
            "is meant, give its symbol.",
            UserWarning,
            stacklevel=4,
        )
    return np.where(exact, match.target, -1)


def read_graph(edges: pd.DataFrame, genes: GeneVocabulary) -> csr_matrix:
    """Turn a table of edges into a graph over the model's genes; an edge of another gene is left out."""
    for column in ("source", "target"):
        if column not in edges:
            raise FieldError(
                f"the graph has no column {column!r}, it has {', '.join(map(str, edges.columns)) or 'none'}."
            )
    ends = [genes.match({"gene": edges[column].astype(str).tolist()}).target for column in ("source", "target")]
    known = (ends[0] >= 0) & (ends[1] >= 0)
    weight = edges["weight"] if "weight" in edges else pd.Series(np.ones(len(edges)))
    if not pd.api.types.is_numeric_dtype(weight.dtype):
        raise ConfigError(f"the graph's column 'weight' holds {weight.dtype}; numbers of 0 or more are needed.")
    return edge_graph(ends[0][known], ends[1][known], weight.to_numpy(dtype=np.float64)[known], len(genes))


def _find(cells: CellBlocks, model: PretrainedModel, reading: Mapping[str, Any]) -> MatchedCounts:
    found = MatchedCounts.find(cells, model.genes, layer=reading["layer"], input_kind=reading["input_kind"])
    if found.normalized:
        raise CountsError("a perturbation is measured on counts; input_kind='log1p' has none, use 'auto' or 'counts'.")
    return found


def _no_control(names: Shaped[np.ndarray, " N"], key: str, control: str) -> ConfigError:
    there = np.unique(names).tolist()
    near = get_close_matches(control, there, n=1)
    hint = (
        f"is it {near[0]!r}?"
        if near
        else f"it has {', '.join(map(repr, there[:5]))}{' ...' if len(there) > 5 else ''}."
    )
    return ConfigError(f"no cell has {control!r} in obs[{key!r}]; {hint}")


def _warn_of_treatments(renamed: Mapping[str, str], control: str, genes: GeneVocabulary) -> None:
    symbols = set(genes.symbols)
    parts = {part for name in renamed.values() if name != control for part in parts_of(name)}
    if others := sorted(parts - symbols):
        warnings.warn(
            f"{', '.join(map(repr, others[:5]))}{' ...' if len(others) > 5 else ''} name no gene of the model, so they "
            "are predicted in other contexts only.",
            UserWarning,
            stacklevel=4,
        )
