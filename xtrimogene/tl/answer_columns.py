"""What an annotation writes into obs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Int

from xtrimogene.data.cell_ontology import CellOntology
from xtrimogene.tasks.annotation.annotator import Annotation

UNKNOWN, SEPARATOR = "unknown", " | "
ALWAYS = ("label", "confidence", "possible", "unknown")
NOT_ALWAYS = ("voted", "ontology_id", "ontology_name")


def write_columns(written: AnnData, columns: Mapping[str, Any], key_added: str) -> None:
    """Write columns into obs, the cells in their order; what another call left of those not written goes."""
    for name in NOT_ALWAYS:
        if name not in columns and f"{key_added}_{name}" in written.obs:
            del written.obs[f"{key_added}_{name}"]
    for name, column in columns.items():
        written.obs[f"{key_added}_{name}"] = pd.Series(column, index=written.obs.index)


def answer_columns(annotation: Annotation) -> dict[str, Any]:
    possible = [
        SEPARATOR.join(annotation.labels[label] for label in np.flatnonzero(row)) if best >= 0 else None
        for row, best in zip(annotation.possible, annotation.best, strict=True)
    ]
    return {
        "label": label_column(annotation, annotation.best),
        "confidence": annotation.confidence.astype(np.float32),
        "possible": pd.Categorical(possible),
        "unknown": annotation.novel,
    }


def label_column(annotation: Annotation, label: Int[np.ndarray, " B"]) -> pd.Categorical:
    """Return these labels by name, nothing for -1; a cell that is novel is unknown."""
    names = list(dict.fromkeys([*annotation.labels, UNKNOWN]))
    chosen = np.where(annotation.novel, names.index(UNKNOWN), label)
    return pd.Categorical.from_codes(chosen.tolist(), categories=pd.Index(names))


def ontology_columns(annotation: Annotation, kept: Mapping[str, Any], ontology: CellOntology) -> dict[str, Any]:
    """Return what the possible labels of each cell have in common; none for unknown cells, or where one has no id."""
    ids = dict(zip(kept["labels"], kept["ids"], strict=True))
    rows, place = np.unique(annotation.possible, axis=0, return_inverse=True)
    common: list[str | None] = []
    for row in rows:
        labels = [annotation.labels[label] for label in np.flatnonzero(row)]
        common.append(ontology.common([ids[label] for label in labels]) if labels and set(labels) <= set(ids) else None)
    names = [None if term is None else ontology.name(term) for term in common]
    said = (annotation.best >= 0) & ~annotation.novel
    columns = {"ontology_id": common, "ontology_name": names}
    return {
        name: pd.Categorical([of_row[row] if here else None for row, here in zip(place.ravel(), said, strict=True)])
        for name, of_row in columns.items()
    }
