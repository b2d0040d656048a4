"""Which columns of a matrix are human genes at all: not antibodies, guides or another species' genes."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int, Shaped

from xtrimogene.data.gene_names import split_name

GENE_EXPRESSION = "Gene Expression"
_FEATURE_TYPES = re.compile(r"feature[_ .]?types?", re.IGNORECASE)
_MOST = 0.9


def are_genes(columns: Mapping[str, Sequence[str]]) -> Bool[np.ndarray, "columns"]:
    """False where 10x's ``feature_types`` names something else; a file without it holds genes."""
    kinds = next((kinds for field, kinds in columns.items() if _FEATURE_TYPES.fullmatch(field)), ())
    if GENE_EXPRESSION not in kinds:
        return np.ones(len(next(iter(columns.values()), ())), bool)
    return np.array([kind in (GENE_EXPRESSION, "") for kind in kinds])


def ensembl_ids(fields: Mapping[str, Sequence[str]]) -> Shaped[np.ndarray, "fields columns"]:
    """Return the Ensembl id that each field holds for each column, without its version, or ""."""
    return np.array([[split_name(name)[0] for name in names] for names in fields.values()], dtype=object)


def of_other_species(ids: Shaped[np.ndarray, "fields columns"]) -> Shaped[np.ndarray, "columns"]:
    """Return each column's Ensembl id that is not human, or "": TP53 with ENSSSCG... is a pig's gene."""
    foreign = np.full(ids.shape[1], "", dtype=object)
    for of_field in ids:
        other = np.array([one != "" and not one.startswith("ENSG") for one in of_field], bool)
        foreign[other] = of_field[other]
    return foreign


def contradicted(
    fields: Mapping[str, Sequence[str]],
    ids: Shaped[np.ndarray, "fields columns"],
    target: Int[np.ndarray, "columns"],
    symbols: Sequence[str],
) -> Bool[np.ndarray, "columns"]:
    """Columns without an Ensembl id where a field has one for nearly all: an antibody CD56, a guide TP53-1.

    An exact symbol stays, unless a column with an id has the same gene.

    Parameters
    ----------
    target
        Place of each column's gene among ``symbols``, or -1.
    """
    with_ids = [of_field != "" for of_field in ids if (of_field != "").sum() > _MOST * len(target)]
    if len(fields) == 1 or not with_ids:
        return np.zeros(len(target), bool)
    has_id = with_ids[-1]
    without = ~has_id & (target >= 0)
    taken = np.isin(target, target[has_id])
    exact = np.zeros(len(target), bool)
    for column in np.flatnonzero(without).tolist():
        exact[column] = any(names[column] == symbols[target[column]] for names in fields.values())
    return without & (~exact | taken)
