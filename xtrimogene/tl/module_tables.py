"""What is told of modules of genes: which gene sets they hold, and how much each group of cells expresses them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int64
from scipy.sparse import csr_matrix

from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.baselines import log_normalize
from xtrimogene.tasks.gene_network.enrichment import MIN_SIZE, enrich, set_members
from xtrimogene.tl.grouped_counts import GroupedCounts

COLUMNS = ("module", "gene_set", "overlap", "module_size", "set_size", "fold", "p", "adjusted_p", "genes")


def enrichment_table(
    modules: Int64[np.ndarray, " A"],
    asked: Int64[np.ndarray, " A"],
    vocabulary: GeneVocabulary,
    sets: Mapping[str, Sequence[str]] | None,
    max_p: float,
) -> pd.DataFrame:
    """Return a row for each module and set with an adjusted p up to ``max_p``, the smallest of each module first.

    Raises
    ------
    ConfigError
        No set has enough genes among those asked.
    """
    if sets is None:
        return pd.DataFrame({name: [] for name in COLUMNS})
    places = {name: vocabulary.match({"genes": list(genes)}).target for name, genes in sets.items()}
    members = set_members(list(places.values()), asked)  # (S, A)
    if members.sum(axis=1).max() < MIN_SIZE:
        raise ConfigError(
            f"none of the {len(sets):,} gene sets has {MIN_SIZE} genes among the {len(asked):,} looked at; give larger "
            "sets, or more genes."
        )
    found, names = enrich(modules, members), list(sets)
    symbols = np.array(vocabulary.symbols)[asked]
    module, chosen = np.nonzero(found.adjusted_p <= max_p)
    table = pd.DataFrame(
        {
            "module": module,
            "gene_set": [names[one] for one in chosen],
            "overlap": found.overlap[module, chosen],
            "module_size": found.module_sizes[module],
            "set_size": found.set_sizes[chosen],
            "fold": found.fold[module, chosen],
            "p": found.p[module, chosen],
            "adjusted_p": found.adjusted_p[module, chosen],
            "genes": [
                ", ".join(symbols[(modules == own) & members[one]]) for own, one in zip(module, chosen, strict=True)
            ],
        }
    )
    return table.sort_values(["module", "p"], kind="stable", ignore_index=True)


def module_scores(
    modules: Int64[np.ndarray, " A"], asked: Int64[np.ndarray, " A"], cells: GroupedCounts, *, scored: bool
) -> pd.DataFrame:
    """Return modules x groups: the mean over a module's genes of log1p CP10k, in standard deviations of each gene."""
    num_modules = int(modules.max(initial=-1)) + 1
    index = [str(module) for module in range(num_modules)]
    if not scored:
        return pd.DataFrame(index=index)
    values = (cells.counts if cells.normalized else log_normalize(cells.counts))[:, asked].astype(np.float64)
    mean = np.asarray(values.mean(axis=0)).ravel()
    spread = np.sqrt((np.asarray(values.multiply(values).mean(axis=0)).ravel() - mean**2).clip(min=0))
    num_cells = len(cells.groups)
    of_group = csr_matrix((np.ones(num_cells), (cells.groups, np.arange(num_cells))))
    of_group = of_group.multiply(1 / np.bincount(cells.groups)[:, None]).tocsr()
    difference = (of_group @ values).toarray() - mean  # (K, A)
    standard = np.divide(difference, spread, out=np.zeros_like(difference), where=spread > 0)
    scores = [standard[:, modules == module].mean(axis=1) for module in range(num_modules)]
    return pd.DataFrame(np.stack(scores), index=index, columns=list(cells.names))
