"""The cells that in-silico edits are made in: chosen by group and state, and read in blocks."""

import os
import warnings
from dataclasses import dataclass

import numpy as np
from anndata import AnnData
from jaxtyping import Bool, Int64, Shaped
from scipy.sparse import csr_matrix, vstack

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.blocks import CellBlocks, open_cells
from xtrimogene.data.counts import InputKind
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import ConfigError, CountsError, FieldError
from xtrimogene.inference import readable_cells


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which cells: by group, by state, and how many of each; as `xtrimogene.tl.in_silico` says."""

    group_key: str | None
    state_key: str | None
    start: str | None
    toward: str | None
    cells_per_group: int | None
    seed: int

    def __post_init__(self) -> None:
        named = self.start is not None or self.toward is not None
        if named != (self.state_key is not None):
            raise ConfigError(
                "state_key names the column of states, and start or toward one of its labels; give both, or neither."
            )
        if named and self.start == self.toward:
            raise ConfigError(f"start and toward are both {self.start!r}; name two states, or one.")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ChosenCells:
    """Counts over the model's genes; the number of each cell's group; cells of the state gone toward, never edited."""

    counts: csr_matrix
    group: Int64[np.ndarray, " B"]
    groups: tuple[str, ...]
    is_target: Bool[np.ndarray, " B"]
    measured: Bool[np.ndarray, " G"]


def choose_cells(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel,
    choice: Choice,
    *,
    layer: str | None,
    input_kind: InputKind,
    min_genes: int,
) -> ChosenCells:
    """Read the cells chosen, and no others, in blocks; those that the model cannot read are left out.

    Raises
    ------
    ConfigError
        ``input_kind="log1p"``.
    FieldError
        No such column or label, or a group without cells of both states.
    CountsError, GeneMatchError, FileFormatError
        As in `xtrimogene.tl.embed`; or no cell can be read.

    Warns
    -----
    UserWarning
        As in `embed`; some cells cannot be read.
    """
    if input_kind == "log1p":
        raise ConfigError("input_kind='log1p' has no counts to edit; give counts, or log1p of counts as 'auto'.")
    with open_cells(adata) as cells:
        groups, is_start, is_target = _sides(cells, choice)
        rows = _draw(groups, is_start, is_target, choice)
        counts = MatchedCounts.find(cells, model.genes, layer=layer, input_kind=input_kind)
        counts.require(min_genes=min_genes, all_rows=isinstance(adata, AnnData))
        kept = [block[rows[start : start + block.shape[0]]] for start, block in counts.blocks()]
        measured = counts.match.measured
        counts.report()
    matrix = vstack(kept, format="csr")
    readable = readable_cells(matrix)
    if not readable.any():
        raise CountsError("None of the cells chosen has counts in the model's genes; give others.")
    if not readable.all():
        warnings.warn(
            f"{int((~readable).sum()):,} of {len(readable):,} cells have no counts in the model's genes and are left "
            "out.",
            UserWarning,
            stacklevel=3,
        )
    names, group = np.unique(groups[rows][readable], return_inverse=True)
    found = ChosenCells(
        counts=matrix[readable],
        group=group.astype(np.int64),
        groups=tuple(names.tolist()),
        is_target=is_target[rows][readable],
        measured=measured,
    )
    _require_sides(found, has_target=bool(is_target.any()))
    return found


def _sides(
    cells: CellBlocks, choice: Choice
) -> tuple[Shaped[np.ndarray, " N"], Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Return each cell's group, and which are edited, and which are of the state that a shift may go toward."""
    everything = np.ones(cells.num_cells, dtype=bool)
    groups = np.full(cells.num_cells, "") if choice.group_key is None else cells.obs_column(choice.group_key)
    if choice.state_key is None:
        return groups, everything, ~everything
    states = cells.obs_column(choice.state_key)
    for wanted in (choice.start, choice.toward):
        if wanted is not None and wanted not in states:
            names = np.unique(states).tolist()
            raise FieldError(
                f"no cell of {cells.name} has {choice.state_key} = {wanted!r}; there are "
                f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}."
            )
    start, target = states == choice.start, states == choice.toward
    return groups, ~target if choice.start is None else start, ~start if choice.toward is None else target


def _draw(
    groups: Shaped[np.ndarray, " N"],
    is_start: Bool[np.ndarray, " N"],
    is_target: Bool[np.ndarray, " N"],
    choice: Choice,
) -> Bool[np.ndarray, " N"]:
    if choice.cells_per_group is None:
        return is_start | is_target
    drawn = np.zeros(len(groups), dtype=bool)
    generator = np.random.default_rng(choice.seed)
    for name in np.unique(groups):
        for side in (is_start, is_target):
            here = np.flatnonzero((groups == name) & side)
            drawn[generator.permutation(here)[: choice.cells_per_group]] = True
    return drawn


def _require_sides(found: ChosenCells, *, has_target: bool) -> None:
    for number, name in enumerate(found.groups):
        here = found.is_target[found.group == number]
        if here.all() or (has_target and not here.any()):
            lacking = "to edit" if here.all() else "of the state to go toward"
            raise FieldError(
                f"{f'the group {name!r} has' if name else 'there are'} no cells {lacking}; "
                "leave the group out, or name other states."
            )
