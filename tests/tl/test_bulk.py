"""Bulk profiles: TPM of few measured genes, and profiles in which every gene of the model is expressed."""

import resource
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

import xtrimogene as xt
from xtrimogene.errors import CountsError

KEY = "X_xtrimogene"


@pytest.mark.shared
def test_the_954_genes_of_deepdds_embed(shared: Path) -> None:
    table = pd.read_csv(shared / "data/tables/deepdds/new_cell_features_954.csv", index_col=0, dtype=str)
    tpm = table.iloc[1:].astype(np.float32)
    lines = AnnData(tpm.to_numpy(), obs=tpm.index.to_frame(), var=pd.DataFrame(index=tpm.columns))
    with pytest.warns(UserWarning, match="X has 954 genes and the model knows 20,092"):
        xt.tl.embed(lines, kind="bulk", pool="mean")
    assert lines.obsm[KEY].shape == (31, 128) and np.isfinite(lines.obsm[KEY]).all()
    assert lines.uns["xtrimogene"]["genes"]["num_matched_genes"] == 953
    assert len(np.unique(lines.obsm[KEY].round(4), axis=0)) == 31
    with pytest.raises(CountsError):
        xt.tl.embed(lines, pool="mean")  # TPM are no counts of single cells


@pytest.mark.slow
def test_a_profile_of_every_gene_embeds_whatever_stands_beside_it_in_bounded_memory() -> None:
    """Each of 20,092 genes is a token: attention over all pairs at once would need 1.6 GB a head and line."""
    model = xt.load("demo")
    random = np.random.default_rng(0)
    tpm = random.gamma(0.5, 100.0, (2, len(model.genes))).astype(np.float32) + 0.01
    short = tpm[:1].copy()
    short[0, random.permutation(len(model.genes))[:19_000]] = 0
    var = pd.DataFrame(index=model.genes.symbols)
    lines = AnnData(csr_matrix(np.vstack([tpm, short])), obs=pd.DataFrame(index=["a", "b", "c"]), var=var)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    xt.tl.embed(lines, model, kind="bulk", pool="mean", progress=False)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    assert grown < 1 << 30
    alone = xt.tl.embed(lines[1:2].copy(), model, kind="bulk", pool="mean", progress=False)
    np.testing.assert_allclose(alone.obsm[KEY][0], lines.obsm[KEY][1], atol=1e-5)
    assert np.isfinite(lines.obsm[KEY]).all()
