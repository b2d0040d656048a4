"""What a labelled reference says of its cells: labels, groups and ids of types, checked before anything is embedded."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Shaped

from xtrimogene.data.blocks import open_cells
from xtrimogene.data.cell_ontology import CellOntology
from xtrimogene.errors import FieldError
from xtrimogene.tasks.annotation.annotator import check_labels
from xtrimogene.tl.answer_columns import SEPARATOR, UNKNOWN


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReferenceLabels:
    """Labels of a reference, which cells have one (and a group and batch, if asked for), these, and ids of labels."""

    label_key: str
    group_key: str | None
    batch_key: str | None
    labels: Shaped[np.ndarray, " N"]
    used: Bool[np.ndarray, " N"]
    groups: Shaped[np.ndarray, " N"] | None
    batches: Shaped[np.ndarray, " N"] | None
    ids: Mapping[str, str] | None


def read_labels(
    reference: AnnData | str | os.PathLike[str],
    label_key: str,
    group_key: str | None,
    ontology_key: str | None,
    batch_key: str | None = None,
) -> ReferenceLabels:
    with open_cells(reference) as cells:
        obs = cells.obs
    labels, used = text_column(obs, label_key)
    warn_of_unknown(labels, label_key)
    if parted := [name for name in np.unique(labels[used]).tolist() if SEPARATOR in name]:
        raise FieldError(f"the label {parted[0]!r} holds {SEPARATOR!r}, which parts possible labels; rename it.")
    groups = batches = None
    if group_key is not None:
        groups, given = text_column(obs, group_key)
        used = with_name(labels, used, given, group_key)
    if batch_key is not None:
        batches, given = text_column(obs, batch_key)
        used = with_name(labels, used, given, batch_key)
        if len(np.unique(batches[used])) < 2:
            raise FieldError(f"the reference's obs[{batch_key!r}] holds one batch; leave batch_key out.")
    check_labels(labels[used], None if groups is None else groups[used])
    ids = None if ontology_key is None else _ids(labels, *text_column(obs, ontology_key), used, ontology_key)
    return ReferenceLabels(
        label_key=label_key,
        group_key=group_key,
        batch_key=batch_key,
        labels=labels,
        used=used,
        groups=groups,
        batches=batches,
        ids=ids,
    )


def _ids(
    labels: Shaped[np.ndarray, " N"],
    terms: Shaped[np.ndarray, " N"],
    given: Bool[np.ndarray, " N"],
    used: Bool[np.ndarray, " N"],
    key: str,
) -> dict[str, str]:
    """Return the one id of each label that has any."""
    ontology, ids = CellOntology(), dict[str, str]()
    chosen = used & given
    for label, term in np.unique(np.column_stack([labels[chosen], terms[chosen]]), axis=0).tolist():
        if term not in ontology:
            raise FieldError(
                f"the reference's obs[{key!r}] holds {term!r}, which is no id of a cell type: CL:0000084 is."
            )
        if label in ids:
            raise FieldError(
                f"the label {label!r} has two ids in obs[{key!r}], {ids[label]} and {term}; one is needed."
            )
        ids[label] = term
    if not ids:
        raise FieldError(f"the reference's obs[{key!r}] holds no id of a cell type; leave ontology_key out.")
    return ids


def text_column(
    obs: pd.DataFrame, key: str, what: str = "the reference"
) -> tuple[Shaped[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Return a column as text, and where it holds any; "", "nan" and "unknown", as in CELLxGENE's files, are none."""
    if key not in obs:
        raise FieldError(f"{what}'s obs has no {key!r}, it has {', '.join(map(str, obs.columns)) or 'nothing'}.")
    column = obs[key]
    if isinstance(column, pd.DataFrame):
        raise FieldError(f"{what}'s obs has {column.shape[1]} columns {key!r}; rename all but one.")
    kind = column.cat.categories.dtype if isinstance(column.dtype, pd.CategoricalDtype) else column.dtype
    if pd.api.types.is_float_dtype(kind):
        raise FieldError(f"{what}'s obs[{key!r}] holds {kind} numbers; names are needed.")
    column = column.astype(object)
    text = column.astype(str).to_numpy(dtype=str)
    return text, column.notna().to_numpy() & ~np.isin(text, ["", "nan", UNKNOWN])


def warn_of_unknown(text: Shaped[np.ndarray, " N"], key: str, what: str = "the reference") -> None:
    """Warn of cells that have a name in `text_column`, and are not used for it."""
    if number := int((text == UNKNOWN).sum()):
        warnings.warn(
            f"{number:,} cells of {what} are not used, since obs[{key!r}] says {UNKNOWN!r} of them; if that is a name, "
            "give them another.",
            UserWarning,
            stacklevel=4,
        )


def with_name(
    labels: Shaped[np.ndarray, " N"],
    used: Bool[np.ndarray, " N"],
    given: Bool[np.ndarray, " N"],
    key: str,
    what: str = "the reference",
) -> Bool[np.ndarray, " N"]:
    """Return which cells of those used so far have a name in column ``key`` too; warn of the others."""
    kept = used & given
    if number := int((used & ~given).sum()):
        lost = sorted(set(labels[used].tolist()) - set(labels[kept].tolist()))
        warnings.warn(
            f"{number:,} cells of {what} that have a label are not used, since obs[{key!r}] holds nothing, or "
            f"{UNKNOWN!r}, of them" + (f"; no cell is left of {', '.join(map(repr, lost))}." if lost else "."),
            UserWarning,
            stacklevel=4,
        )
    return kept
