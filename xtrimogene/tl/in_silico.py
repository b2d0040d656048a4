"""What a model makes of cells whose genes are knocked out or over-expressed: a table, one row an edit."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.config import Pool
from xtrimogene.data.counts import InputKind
from xtrimogene.data.read_depth import ReadDepth
from xtrimogene.errors import ConfigError
from xtrimogene.inference import Inference
from xtrimogene.long_work import progress_bar
from xtrimogene.tasks.in_silico.edits import Edit, EditableCells, EditKind, Level
from xtrimogene.tasks.in_silico.named import GeneNames, named_edits
from xtrimogene.tasks.in_silico.null import LEAST, draw_like
from xtrimogene.tasks.in_silico.sweep import Reading, Shifts, UneditedCells, directions_between, sweep
from xtrimogene.tasks.in_silico.sweep_folder import SweepFolder
from xtrimogene.tl.edited_cells import Choice, ChosenCells, choose_cells
from xtrimogene.tl.in_silico_table import shift_table


def in_silico(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    *,
    knock_out: GeneNames | Literal["all"] = (),
    over_express: GeneNames = (),
    level: str = "q0.95",
    group_key: str | None = None,
    state_key: str | None = None,
    start: str | None = None,
    toward: str | None = None,
    genes: Sequence[str] = (),
    through: Literal["latent", "decoder"] | None = None,
    cells_per_group: int | None = None,
    min_cells: int = 10,
    num_random: int = 200,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    devices: Sequence[str] | None = None,
    pool: Pool | None = None,
    read_depth: str | None = None,
    layer: str | None = None,
    input_kind: InputKind = "auto",
    token_budget: int | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> pd.DataFrame:
    """Edit the counts of cells gene by gene, embed them again, and say how far and where their vectors move.

    This asks the model, not the cell: it says which genes a cell's vector rests on, in the manner of Geneformer's
    in-silico perturbation (Theodoris et al. 2023). The demo model's vectors rest on genes that mark a type, and its
    edits point toward a state no better than counts themselves do (benchmarks/in_silico.py).

    Parameters
    ----------
    adata
        Cells x genes, or the path of an .h5ad or .zarr, which is read in blocks; counts and genes are found as in
        `embed`. It is not changed.
    knock_out
        Symbols or Ensembl ids; each is one edit, and so is each tuple of them, a combination. A gene's count becomes 0
        and the others stay. "all": each measured gene that enough cells express.
    over_express
        As ``knock_out``; a gene's count is raised to ``level``.
    level
        "q0.95": to this quantile of the gene's share of counts in the cells that express it, those of both states;
        "f10": tenfold, in cells that express it; "c20": to 20 counts per 10,000. With q and c a cell that has as much
        already stays as it is.
    group_key
        A column of ``obs``, such as the cell type: each edit gets a row a group.
    state_key, start, toward
        A column of ``obs`` and one or two of its labels. Cells of ``start`` are edited, and their shift is measured
        along the difference of the means of ``toward`` and ``start``, each group's own. Default of either: all other
        cells.
    genes
        Genes whose predicted expression is compared before and after, measured or not; this embeds cells twice.
    through
        As in `xtrimogene.get.expression`.
    cells_per_group
        Draw at most so many cells of a group (and of each of two states); the others are not read.
    min_cells
        Refuse to edit a gene that fewer of the cells express, other than to a level of counts ("c20").
    num_random
        Edits of random genes of like expression, made for each kind of edit in order to know what is large; 0: none.
        With "all", or where fewer than 20 others are expressed, these are edits of the edited genes themselves, and
        each is left out of what it is compared with.
        No p is smaller than 1 / (num_random + 1).
    out
        A folder that results are kept in part by part: the same call goes on from there when it was stopped, and
        returns at once when it was done.
    devices
        Such as ["cuda:0", "cuda:1"]: edits are dealt to them. Default: one, as in `embed`.
    pool, read_depth, layer, input_kind, token_budget, min_genes
        As in `embed`; "log1p" has no counts to edit.

    Returns
    -------
    A row for each edit, and group: "edit", its kind; "genes", such as "CD3D + CD3E"; "group"; "cells", and how many of
    them the edit "changed", over which all that follows is a mean: "shift", the length of the shift of a cell's vector;
    "cosine", of the vectors before and after; "toward", the shift along the way between the two states, as a share of
    it: 1 is all the way; "change_CD3D", the change of predicted log1p of counts per 10,000. For shift and toward also:
    "shift_random" and "shift_random_sd", the mean and the standard deviation of what edits of random genes do that are
    alike in the number of cells and in the values they change; "shift_z", how many of these deviations it is from that
    mean; "shift_p", the share of random edits that lie as far from their own like (above them, for shift; on either
    side, for toward), and "shift_q", p adjusted over all rows of the kind (Benjamini and Hochberg 1995). An edit that
    changes no cell of a group has NaN there.

    Notes
    -----
    *An edited cell is normalised to 10,000 anew.* What a knock-out takes, the cell's other genes gain in proportion,
    and what an over-expression adds, they lose; the model reads the new total as the cell's depth. A gene with a large
    share of the counts so moves all others, which is why it is compared with genes of like expression.

    *Limits.* A gene that a cell does not express cannot be knocked out in it: what shows no count may be expressed. No
    other gene responds: the edit is made, and its consequences in the cell are not. A shift says what the model holds
    to be typical of such cells, cause and effect alike: a gene that marks a state moves cells towards it whether or not
    it brings the state about: in the demo model interferon-beta itself does not move cells toward the state that it
    brings about, and genes that only respond to it do. Cells of a group share their donor and the model's errors, so p
    speaks of genes, not of donors; and means of states that are unlike in depth differ by depth, too.

    Raises
    ------
    ConfigError
        No edits; one given twice; a gene that too few cells express; an option that cannot be; ``out`` holds something
        else, or a sweep with other options.
    GeneMatchError
        A gene that the model does not know, or that was not measured; or as in `embed`.
    FieldError
        No such column or label; or a group without cells of both states.
    CountsError, FileFormatError, CheckpointError
        As in `embed`.

    Warns
    -----
    UserWarning
        As in `embed`; cells without counts in the model's genes are left out.
    """
    loaded = load(model)
    raising, depth, pooled = Level.parse(level), read_depth or loaded.config.read_depth, pool or loaded.config.pool
    ReadDepth.parse(depth)
    _check_numbers(min_cells=min_cells, num_random=num_random, cells_per_group=cells_per_group)
    chosen = choose_cells(
        adata,
        loaded,
        Choice(
            group_key=group_key,
            state_key=state_key,
            start=start,
            toward=toward,
            cells_per_group=cells_per_group,
            seed=seed,
        ),
        layer=layer,
        input_kind=input_kind,
        min_genes=min_genes,
    )
    cells = EditableCells(chosen.counts[~chosen.is_target], chosen.counts)
    edits, random_edits = _all_edits(
        cells, chosen.measured, loaded, knock_out, over_express, raising, min_cells, num_random, seed
    )
    reading = Reading(
        pool=pooled,
        read_depth=depth,
        genes=loaded.genes.places(genes) if len(genes) else np.zeros(0, dtype=np.int64),
        through=_through(through, loaded),
        measured=chosen.measured,
    )
    plan = {
        "version": version("xtrimogene"),
        "model": _sha256(parameter.numpy() for parameter in loaded.network.state_dict().values()),
        "cells": _sha256([chosen.counts.data, chosen.counts.indices, chosen.counts.indptr]),
        "groups": _sha256([chosen.group, chosen.is_target]),
        "measured": _sha256([chosen.measured]),
        "edits": [[edit.kind, *(loaded.genes.symbols[gene] for gene in edit.genes)] for edit in edits],
        "level": level,
        "genes": [loaded.genes.symbols[gene] for gene in reading.genes.tolist()],
        "through": reading.through,
        "num_random": num_random,
        "min_cells": min_cells,
        "seed": seed,
        "pool": pooled,
        "read_depth": depth,
    }
    named: Sequence[str | None] = devices or [None]
    inferences = [Inference(loaded, device=one, token_budget=token_budget) for one in named]
    with _folder(out) as folder:
        parts, every = SweepFolder(folder, plan), (*edits, *random_edits)
        shifts = _sweep(inferences, chosen, cells, every, raising, reading, parts, progress)
    return shift_table(
        edits,
        random_edits,
        shifts,
        vocabulary=loaded.genes,
        groups=chosen.groups,
        num_cells=np.bincount(chosen.group[~chosen.is_target], minlength=len(chosen.groups)),
        genes=reading.genes,
        grouped=group_key is not None,
        directed=state_key is not None,
    )


def _sweep(
    inferences: Sequence[Inference],
    chosen: ChosenCells,
    cells: EditableCells,
    edits: Sequence[Edit],
    level: Level,
    reading: Reading,
    folder: SweepFolder,
    progress: bool,
) -> Shifts:
    """Embed the cells as they are, find the way between states, and make the edits."""
    first, edited = inferences[0], ~chosen.is_target
    with progress_bar("Embedding cells", len(edited), shown=progress) as advance:
        vectors = reading.vectors(first, chosen.counts, advance)
    if chosen.is_target.any():
        directions = directions_between(vectors, chosen.group, chosen.is_target, len(chosen.groups))
    else:
        directions = np.zeros((len(chosen.groups), vectors.shape[1]))
    unedited = UneditedCells(
        cells=cells,
        group=chosen.group[edited],
        vectors=vectors[edited],
        predicted=reading.predicted(first, cells.counts),
        directions=directions,
    )
    with progress_bar("Edits", len(edits), shown=progress) as advance:
        return sweep(inferences, unedited, edits, level=level, reading=reading, folder=folder, progress=advance)


def _all_edits(
    cells: EditableCells,
    measured: Bool[np.ndarray, " G"],
    model: PretrainedModel,
    knock_out: GeneNames | Literal["all"],
    over_express: GeneNames,
    level: Level,
    min_cells: int,
    num_random: int,
    seed: int,
) -> tuple[tuple[Edit, ...], tuple[Edit, ...]]:
    """Return the edits asked for, and those of random genes like theirs."""
    edits: list[Edit] = []
    random_edits: list[Edit] = []
    kinds: tuple[tuple[EditKind, GeneNames | Literal["all"], int], ...] = (
        ("knock-out", knock_out, min_cells),
        ("over-expression", over_express, 0 if level.kind == "c" else min_cells),
    )
    for kind, names, least in kinds:
        source = cells.reference if kind == "over-expression" and level.kind == "q" else cells
        expressing = source.num_expressing
        asked = named_edits(kind, names, model.genes, measured=measured, num_expressing=expressing, min_cells=least)
        edits += asked
        if asked and num_random:
            random_edits += draw_like(asked, source, measured & (expressing >= least), num_random, seed=seed)
    if not edits:
        raise ConfigError("There is nothing to edit: name genes in knock_out, or in over_express.")
    return tuple(edits), tuple(random_edits)


def _through(through: Literal["latent", "decoder"] | None, model: PretrainedModel) -> Literal["latent", "decoder"]:
    has_latent = model.config.latent_dim is not None
    if through == "latent" and not has_latent:
        raise ConfigError("through='latent' needs a model with a latent cell vector; choose 'decoder'.")
    return through or ("latent" if has_latent else "decoder")


def _check_numbers(*, min_cells: int, num_random: int, cells_per_group: int | None) -> None:
    if min_cells < 1:
        raise ConfigError(f"min_cells={min_cells} must be at least 1.")
    if num_random and num_random < LEAST:
        raise ConfigError(f"num_random={num_random} must be 0, or at least {LEAST}.")
    if cells_per_group is not None and cells_per_group < 1:
        raise ConfigError(f"cells_per_group={cells_per_group} must be at least 1.")


def _sha256(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@contextmanager
def _folder(out: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Yield the folder named, or one that is gone afterwards."""
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)
