"""Counts of a source over the genes of a model, and what is said of those that will not do."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix, vstack

from xtrimogene.data.blocks import open_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import CountsError

HUMAN = GeneVocabulary.human()
GENES = GeneVocabulary(HUMAN.symbols[:300], HUMAN.ensembl_ids[:300])


@pytest.fixture
def counts() -> csr_matrix:
    return csr_matrix(np.random.default_rng(0).poisson(1.0, (20, 300)).astype(np.float32))


def matched(counts: csr_matrix, names: list[str], genes: GeneVocabulary = GENES) -> MatchedCounts:
    return MatchedCounts.find(open_cells(AnnData(counts, var=pd.DataFrame(index=names))), genes)


def test_counts_come_back_in_the_models_order(counts: csr_matrix) -> None:
    order = np.random.default_rng(1).permutation(300)
    found = matched(counts[:, order], [GENES.symbols[gene] for gene in order])
    assert (found.all() != counts).nnz == 0
    assert found.require(min_genes=200, all_rows=True).share_of_counts == 1


def test_cells_of_another_species_are_counted(counts: csr_matrix) -> None:
    mouse = np.zeros((20, 300), np.float32)
    mouse[:1] = counts[:1].toarray() * 10
    mouse[4:8] = counts[4:8].toarray()
    names = [*GENES.symbols, *(f"ENSMUSG{gene:011d}" for gene in range(300))]
    found = matched(csr_matrix(np.hstack([counts.toarray(), mouse])), names)
    with pytest.warns(UserWarning) as caught:
        found.require(min_genes=200, all_rows=True)
    said = [str(warning.message) for warning in caught]
    assert any(
        "1 of 20 cells looked at have less than a tenth of their counts in the model's genes" in one for one in said
    )


def test_selected_genes_are_noticed(counts: csr_matrix) -> None:
    with pytest.warns(UserWarning, match="X has 300 genes and the model knows 20,092: if they were selected"):
        matched(counts, list(GENES.symbols), HUMAN).require(min_genes=200, all_rows=True)


def test_reading_goes_on_at_a_block(counts: csr_matrix) -> None:
    found = matched(counts, list(GENES.symbols))
    blocks = list(found.blocks(max_nonzeros=1_000))
    starts = [start for start, _ in blocks]
    assert len(starts) > 3
    rest = list(found.blocks(first_row=starts[2], max_nonzeros=1_000))
    assert [start for start, _ in rest] == starts[2:] and (
        vstack([one for _, one in rest]) != counts[starts[2] :]
    ).nnz == 0
    assert found.counts_per_column.sum() == counts[starts[2] :].sum()


def test_zeros_alone_are_refused(counts: csr_matrix) -> None:
    with pytest.raises(CountsError, match="X of AnnData holds only zeros"):
        matched(counts * 0, list(GENES.symbols)).require(min_genes=200, all_rows=True)
