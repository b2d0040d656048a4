# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Embed cells
#
# From an AnnData of raw counts to one vector per cell, what to do with it, and what can go wrong. It runs on a laptop
# without a GPU and without a download: the small demo model and real blood cells (Hao 2021) are in the
# package.

# %%
import warnings

import numpy as np

import xtrimogene as xt
from xtrimogene.demo import sample_cells

warnings.simplefilter("ignore", FutureWarning)
adata = sample_cells()
adata = adata[np.random.default_rng(0).permutation(adata.n_obs)[:150]].copy()
adata

# %% [markdown]
# ## Ask first
#
# `xt.pp.check` reads the data and changes nothing. It says which matrix holds counts, which genes the model knows and
# how much of the counts they carry, and how long embedding would take.

# %%
print(xt.pp.check(adata))

# %% [markdown]
# ## Embed
#
# The AnnData is changed in place and returned. X stays as it is; the vectors are in `obsm`, and `uns` says which model
# made them, with which options, and how the genes matched.

# %%
xt.tl.embed(adata)
print(adata.obsm["X_xtrimogene"].shape, adata.obsm["X_xtrimogene"].dtype)
print({key: adata.uns["xtrimogene"][key] for key in ("model", "version")})

# %% [markdown]
# The same cell has the same vector whatever other cells it comes with, in whatever order.

# %%
alone = xt.tl.embed(adata[7].copy()).obsm["X_xtrimogene"][0]
print("largest difference:", np.abs(alone - adata.obsm["X_xtrimogene"][7]).max())

# %% [markdown]
# ## Look
#
# The vectors go wherever scanpy takes a representation: neighbours, UMAP, Leiden.

# %%
xt.pl.embedding(adata, color="cell_type")
# %% [markdown]
# ## Give labels to new cells
#
# Train any classifier on the vectors of labelled cells. Macro-F1 counts every cell type the same, also the rare ones;
# the split goes by sequencing lane and not by cell.

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

known = adata.obs["lane"].astype(str).str.startswith("E2").to_numpy()
vectors, labels = adata.obsm["X_xtrimogene"], adata.obs["cell_type"].astype(str).to_numpy()
classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(
    vectors[known], labels[known]
)
predicted = classifier.predict(vectors[~known])
print(f"macro-F1 on {(~known).sum()} cells of unseen lanes: {f1_score(labels[~known], predicted, average='macro'):.2f}")

# %% [markdown]
# ## Predicted expression
#
# The model predicts every gene it knows, log1p of counts per 10,000, from the genes that a cell expresses. These four
# markers are not in this file at all: T cells, B cells, monocytes and NK cells are told apart by the other genes.

# %%
import pandas as pd

markers = ["CD3D", "MS4A1", "LYZ", "NKG7"]
print("in the file:", [gene for gene in markers if gene in adata.var_names])
levels = pd.DataFrame(xt.get.expression(adata, genes=markers), index=labels, columns=markers)
print(levels.groupby(level=0).mean().round(1))

# %% [markdown]
# ## When the data is not what it should be
#
# Scaled data cannot be turned back into counts. The error says what was found and what to do, before anything is
# written.

# %%
import scanpy as sc

scaled = adata[:100].copy()
scaled.X = scaled.X.toarray()
sc.pp.normalize_total(scaled)
sc.pp.log1p(scaled)
sc.pp.scale(scaled)
try:
    xt.tl.embed(scaled)
except xt.errors.CountsError as error:
    print(error)

# %% [markdown]
# ## Files that do not fit in memory
#
# Give a path instead of an AnnData (`xt.tl.embed("cells.h5ad")`) and it is read in blocks. On the command line:
#
# ```
# xtrimogene check cells.h5ad
# xtrimogene embed cells.h5ad embedded.h5ad
# ```
