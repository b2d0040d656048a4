"""From names of genes to edits: every gene has to be known, measured and, where that matters, expressed."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Int64

from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import ConfigError, GeneMatchError
from xtrimogene.tasks.in_silico.edits import Edit, EditKind

GeneNames: TypeAlias = Sequence[str | tuple[str, ...]]


def named_edits(
    kind: EditKind,
    names: GeneNames | Literal["all"],
    genes: GeneVocabulary,
    *,
    measured: Bool[np.ndarray, " G"],
    num_expressing: Int64[np.ndarray, " G"],
    min_cells: int,
) -> tuple[Edit, ...]:
    """Return an edit for each name, or tuple of names; for "all", one for each gene that enough cells express.

    Parameters
    ----------
    min_cells
        How many cells have to express a gene; 0 for an edit that does not ask what a gene's count was.

    Raises
    ------
    ConfigError
        A name where a list is needed, an edit given twice, or a gene that too few cells express.
    GeneMatchError
        A gene that the model does not know, or that was not measured.
    """
    if isinstance(names, str):
        if names != "all":
            raise ConfigError(f"{names!r} is one name; a list is needed, such as [{names!r}], or 'all'.")
        found = np.flatnonzero(measured & (num_expressing >= min_cells))
        return tuple(Edit(kind=kind, genes=(gene,)) for gene in found.tolist())
    groups = [(name,) if isinstance(name, str) else tuple(name) for name in names]
    if not groups:
        return ()
    if not all(groups):
        raise ConfigError(f"an empty combination edits nothing ({kind}); name its genes, or leave it out.")
    flat = genes.places([name for group in groups for name in group]).tolist()
    _require(flat, genes, measured, num_expressing, min_cells, kind)
    edits, place = [], 0
    for group in groups:
        edits.append(Edit(kind=kind, genes=tuple(sorted(flat[place : place + len(group)]))))
        place += len(group)
    for number, edit in enumerate(edits):
        if edit in edits[:number] or len(set(edit.genes)) < len(edit.genes):
            raise ConfigError(f"{label(edit, genes)} is given twice ({kind}), perhaps by two names; give it once.")
    return tuple(edits)


def label(edit: Edit, genes: GeneVocabulary) -> str:
    """Return the symbols of an edit: "CD3D + CD3E"."""
    return " + ".join(genes.symbols[gene] for gene in edit.genes)


def _require(
    places: list[int],
    genes: GeneVocabulary,
    measured: Bool[np.ndarray, " G"],
    num_expressing: Int64[np.ndarray, " G"],
    min_cells: int,
    kind: EditKind,
) -> None:
    missing = [genes.symbols[gene] for gene in places if not measured[gene]]
    if missing:
        raise GeneMatchError(f"{_few(missing)}: not measured in these cells ({kind}); leave it out.")
    rare = [gene for gene in places if num_expressing[gene] < min_cells]
    if rare:
        most = max(int(num_expressing[gene]) for gene in rare)
        few = f"at most {most} cells express it, and {min_cells} are needed" if most else "no cell expresses it"
        remedies = ["leave it out", *(["lower min_cells"] if most else [])]
        if kind == "over-expression":
            remedies.append("give a level of counts, such as level='c20'")
        named = _few([genes.symbols[gene] for gene in rare])
        raise ConfigError(f"{named}: {few} ({kind}); {', or '.join(remedies)}.")


def _few(repeated: list[str]) -> str:
    names = list(dict.fromkeys(repeated))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
