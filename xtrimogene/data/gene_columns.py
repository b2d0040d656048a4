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


def ids_of_other_species(fields: Mapping[str, Sequence[str]]) -> Shaped[np.ndarray, "columns"]:
    """Return each column's Ensembl id that is not human, or "": TP53 with ENSSSCG... is a pig's gene."""
    foreign = np.full(len(next(iter(fields.values()))), "", dtype=object)
    for names in fields.values():
        for column, name in enumerate(names):
            if name.startswith("ENSG") or "ENS" not in name:
                continue
            ensembl_id, _ = split_name(name)
            if ensembl_id and not ensembl_id.startswith("ENSG"):
                foreign[column] = ensembl_id
    return foreign


def contradicted(
    fields: Mapping[str, Sequence[str]], target: Int[np.ndarray, "columns"], symbols: Sequence[str]
) -> Bool[np.ndarray, "columns"]:
    """Columns without an Ensembl id where a field has one for nearly all: an antibody CD56, a guide TP53-1.

    An exact symbol stays, unless a column with an id has the same gene.

    Parameters
    ----------
    target
        Place of each column's gene among ``symbols``, or -1.
    """
    has_id = np.ones(len(target), bool)
    if len(fields) > 1:
        for names in fields.values():
            found = np.array([name.startswith("ENS") or bool(split_name(name)[0]) for name in names], bool)
            if found.sum() > _MOST * len(found):
                has_id = found
    without = ~has_id & (target >= 0)
    taken = np.isin(target, target[has_id])
    exact = np.zeros(len(target), bool)
    for column in np.flatnonzero(without).tolist():
        exact[column] = any(names[column] == symbols[target[column]] for names in fields.values())
    return without & (~exact | taken)
