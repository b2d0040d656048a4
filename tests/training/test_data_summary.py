"""A summary of files counts what pre-training would read."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from xtrimogene.config import SamplingConfig, StoreConfig
from xtrimogene.data.cell_store import join, open_stores, read_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.sampler import Sampler
from xtrimogene.data.store_builder import build_store
from xtrimogene.errors import ConfigError, CountsError, FieldError, GeneMatchError
from xtrimogene.training.data_summary import summarize_files

SAMPLER = {"batch_size": 8, "config": SamplingConfig(), "seed": 0}


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
    read = join(open_stores(files, GeneVocabulary.human(), min_genes=min_genes, joined_by=joined_by))
    num_cells = len(read.panel)
    assert (num_cells < 80) == (min_genes == 200)
    summary = summarize_files(files, min_genes=min_genes, joined_by=joined_by)
    assert (summary.num_cells, summary.num_studies) == (num_cells, len(read.measured))
    assert summary.expressed_genes == pytest.approx(read.read(0, num_cells).nnz / num_cells)


@pytest.mark.filterwarnings("ignore:X has 400 genes")
@pytest.mark.parametrize("min_genes", [1, 200])
def test_a_built_store_is_what_went_into_it(files: list[str], min_genes: int, tmp_path: Path) -> None:
    store = str(tmp_path / "cells.zarr")
    build_store(StoreConfig(files=tuple(files), output=store, batch_key="lane", min_genes=1))
    joined_by = dict.fromkeys(files, "lane")
    assert summarize_files([store], min_genes=min_genes) == summarize_files(
        files, min_genes=min_genes, joined_by=joined_by
    )
    with pytest.raises(ConfigError, match="is a built store and knows its batches"):
        summarize_files([store], joined_by={store: "lane"})


def test_a_file_counts_as_often_as_an_epoch_reads_it(files: list[str]) -> None:
    one, other = (summarize_files([file], min_genes=1) for file in files)
    both = summarize_files(files, min_genes=1, weights={files[0]: 2.5})
    assert both.num_cells == 75 + 50 == Sampler([(30, 2.5), (50, 1.0)], **SAMPLER).cells_per_epoch
    assert both.expressed_genes == pytest.approx((75 * one.expressed_genes + 50 * other.expressed_genes) / 125)


def test_a_sample_stands_for_all(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    everything = read_cells(files[0], GeneVocabulary.human(), min_genes=1).counts
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


def test_a_file_of_other_genes_is_named(tmp_path: Path) -> None:
    cells = anndata.AnnData(
        sparse.csr_matrix(np.ones((4, 300), np.float32)), var=pd.DataFrame(index=[f"OTHER{i}" for i in range(300)])
    )
    cells.write_h5ad(tmp_path / "c.h5ad")
    with pytest.raises(GeneMatchError, match="^c.h5ad: 0 of 300 genes"):
        summarize_files([str(tmp_path / "c.h5ad")])
