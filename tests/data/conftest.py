"""Files of cells over human genes, to build cell stores of."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

from xtrimogene.data.gene_vocabulary import GeneVocabulary

NUM_COLUMNS = 6_000


@pytest.fixture(scope="session")
def write_cells(make_counts: Callable[..., csr_matrix]) -> Callable[..., str]:
    """Return a writer of an .h5ad: cells x 6,000 human genes in some order, with donors and batches in obs."""

    def write(path: Path, num_cells: int = 40, seed: int = 0, counts: csr_matrix | None = None) -> str:
        random = np.random.default_rng(seed)
        genes = random.permutation(len(GeneVocabulary.human()))[:NUM_COLUMNS]
        if counts is None:
            counts = make_counts(num_cells, NUM_COLUMNS, 0.06, seed)
        obs = pd.DataFrame(
            {
                "donor": [f"donor {cell % 3}" for cell in range(num_cells)],
                "batch": [f"batch {cell % 2}" for cell in range(num_cells)],
            },
            index=[f"cell{cell}" for cell in range(num_cells)],
        )
        var = pd.DataFrame(index=[GeneVocabulary.human().symbols[gene] for gene in genes])
        AnnData(counts, obs=obs, var=var).write_h5ad(path)
        return str(path)

    return write
