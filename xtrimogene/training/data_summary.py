"""How many cells there are to train on, and how many genes they express: all that a plan needs to know of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from xtrimogene.data.blocks import open_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import ConfigError, CountsError


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSummary:
    """Cells that are trained on; the mean number of the model's genes that one of them expresses; studies."""

    num_cells: int
    expressed_genes: float
    num_studies: int = 1

    def __post_init__(self) -> None:
        for name in ("num_cells", "expressed_genes", "num_studies"):
            if not getattr(self, name) >= 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1.")


def summarize_files(
    files: Sequence[str | Path],
    *,
    min_genes: int = 200,
    joined_by: Mapping[str, str] = MappingProxyType({}),
) -> DataSummary:
    """Look at about 10,000 evenly spaced cells of each file (.h5ad, .zarr), as pre-training would read them.

    Parameters
    ----------
    min_genes, joined_by
        As in `PretrainConfig`.

    Raises
    ------
    FileFormatError, CountsError, GeneMatchError, FieldError
        As pre-training on these files would.
    """
    genes = GeneVocabulary.human()
    num_cells, num_expressed, num_studies = 0.0, 0.0, 0
    for file in files:
        with open_cells(file) as cells:
            matched = MatchedCounts.find(cells, genes)
            expressed = np.concatenate([np.diff(block.indptr) for _, block in matched.sample()])
            matched.match.require(matched.counts_per_column)
            key = joined_by.get(str(file))
            num_studies += 1 if key is None else len(np.unique(cells.obs_column(key)))
            kept = expressed[expressed >= min_genes]
            here = cells.num_cells * len(kept) / max(1, len(expressed))
            num_cells += here
            num_expressed += here * float(kept.mean()) if len(kept) else 0.0
    if num_cells == 0:
        raise CountsError(f"No cell has {min_genes} expressed genes; lower min_genes or give other files.")
    return DataSummary(
        num_cells=max(1, round(num_cells)), expressed_genes=num_expressed / num_cells, num_studies=num_studies
    )
