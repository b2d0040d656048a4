"""A summary of files counts what pre-training would read."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import CountsError, FieldError
from xtrimogene.training.data_module import read_training_cells
from xtrimogene.training.data_summary import summarize_files


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two files of cells with 50 to 350 expressed genes; the second joins two batches."""
    random = np.random.default_rng(0)
    var = pd.DataFrame(index=list(GeneVocabulary.human().symbols[:400]))
    for name, num_cells in (("a", 30), ("b", 50)):
        shares = np.linspace(0.125, 0.875, num_cells)[:, None]
        counts = (random.random((num_cells, 400)) < shares) * random.geometric(0.5, (num_cells, 400))
        obs = pd.DataFrame(
            {"lane": [f"lane {i % 2}" for i in range(num_cells)]}, index=[f"{i}" for i in range(num_cells)]
        )
        cells = anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)
        cells.write_h5ad(tmp_path / f"{name}.h5ad")
    return [str(tmp_path / "a.h5ad"), str(tmp_path / "b.h5ad")]


@pytest.mark.parametrize("min_genes", [1, 200])
def test_it_is_what_pre_training_reads(files: list[str], min_genes: int) -> None:
    joined_by = {files[1]: "lane"}
    read = read_training_cells(files, GeneVocabulary.human(), min_genes=min_genes, joined_by=joined_by)
    num_cells = read.counts.shape[0]
    assert (num_cells < 80) == (min_genes == 200)
    summary = summarize_files(files, min_genes=min_genes, joined_by=joined_by)
    assert (summary.num_cells, summary.num_studies) == (num_cells, len(read.measured))
    assert summary.expressed_genes == pytest.approx(read.counts.nnz / num_cells)


def test_a_sample_stands_for_all(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    everything = read_training_cells(files[:1], GeneVocabulary.human(), min_genes=1).counts
    looked_at = np.diff(everything.indptr)[[0, 1, 2, 3, 4, 20, 21, 22, 23, 24]]
    kept = looked_at[looked_at >= 100]
    monkeypatch.setattr("xtrimogene.data.matched_counts.SAMPLE_ROWS", 20)
    monkeypatch.setattr("xtrimogene.data.blocks.CellBlocks.sample_rows", lambda cells, rows: [(0, 5), (20, 25)])
    summary = summarize_files(files[:1], min_genes=100)
    assert 5 <= len(kept) < 10 and summary.num_cells == 30 * len(kept) // 10
    assert summary.expressed_genes == pytest.approx(kept.mean())


def test_what_cannot_be_trained_on_is_refused(files: list[str]) -> None:
    with pytest.raises(CountsError, match="No cell has 500 expressed genes"):
        summarize_files(files, min_genes=500)
    with pytest.raises(FieldError, match="no obs column 'batch'"):
        summarize_files(files, joined_by={files[0]: "batch"})
