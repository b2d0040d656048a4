"""How many cells there are to train on, and how many genes they express: all that a plan needs to know of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Shaped

from xtrimogene.data.blocks import open_cells
from xtrimogene.data.cell_store import open_built_store
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.data.naming import naming
from xtrimogene.data.store_format import is_store
from xtrimogene.errors import ConfigError, CountsError

Summary = tuple[Shaped[np.ndarray, "n"], float, int]  # lengths of the cells looked at, cells for each of them, studies


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSummary:
    """Cells of an epoch; the mean number of the model's genes that one of them expresses; studies."""

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
    weights: Mapping[str, float] = MappingProxyType({}),
) -> DataSummary:
    """Look at about 10,000 evenly spaced cells of each .h5ad or .zarr, and at the index of a built store.

    Parameters
    ----------
    min_genes, joined_by, weights
        As in `PretrainConfig`.

    Raises
    ------
    FileFormatError, CountsError, GeneMatchError, FieldError
        As pre-training on these files would.
    """
    genes = GeneVocabulary.human()
    num_cells, num_expressed, num_studies = 0.0, 0.0, 0
    for file in files:
        of_file = _summarize_store if is_store(file) else _summarize_file
        lengths, share, studies = of_file(file, genes, joined_by.get(str(file)))
        kept = lengths[lengths >= min_genes]
        num_studies += studies
        num_cells += share * weights.get(str(file), 1.0) * len(kept)
        num_expressed += share * weights.get(str(file), 1.0) * float(kept.sum())
    if num_cells == 0:
        raise CountsError(f"No cell has {min_genes} expressed genes; lower min_genes or give other files.")
    return DataSummary(
        num_cells=max(1, round(num_cells)), expressed_genes=num_expressed / num_cells, num_studies=num_studies
    )


def _summarize_file(file: str | Path, genes: GeneVocabulary, joined_by: str | None) -> Summary:
    with naming(Path(file).name), open_cells(file) as cells:
        matched = MatchedCounts.find(cells, genes)
        lengths = np.concatenate([np.diff(block.indptr) for _, block in matched.sample()])
        matched.match.require(matched.counts_per_column)
        num_studies = 1 if joined_by is None else len(np.unique(cells.obs_column(joined_by)))
        return lengths, cells.num_cells / max(1, len(lengths)), num_studies


def _summarize_store(file: str | Path, genes: GeneVocabulary, joined_by: str | None) -> Summary:
    store = open_built_store(file, genes, joined_by)
    return store.lengths, 1.0, len(store.measured)
