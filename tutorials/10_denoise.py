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
# # Denoise cells
#
# A cell is sequenced to a few thousand molecules, and most of its genes are missed. What would it show if it were read
# more deeply? The model is told the depth that is wanted (the T token of scFoundation) and predicts every gene; that
# is calibrated on the cells at hand and weighed against the molecules of similar cells and of the cell itself. Real
# blood cells (Hao 2021), in the package; the model never saw them.

# %%
import warnings

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

import xtrimogene as xt
from xtrimogene.data.read_depth import thin_counts
from xtrimogene.demo import sample_cells
from xtrimogene.tasks.denoising.molecules import log_loss, with_some_mean

warnings.simplefilter("ignore", FutureWarning)
cells = sample_cells()
types = ["B cells", "Monocytes", "NK cells", "T cells CD8", "Platelet"]
cells = cells[cells.obs["cell_type"].isin(types)].copy()
cells = cells[np.random.default_rng(0).permutation(cells.n_obs)[:150]].copy()
print(f"{cells.n_obs} cells, {cells.X.sum(axis=1).mean():,.0f} counts each")

# %% [markdown]
# ## A layer of denoised values
#
# To try it where the truth is known, a quarter of the molecules is kept and the denoised cells are compared with the
# others. `target_depth` is a number of counts, at least what the deepest cell has; the default is ten times that.

# %%
shallow = cells.copy()
shallow.X = thin_counts(cells.X.tocsr(), 0.25, np.random.default_rng(0))
xt.tl.denoise(shallow, target_depth=50_000)
shallow.uns["xtrimogene_denoised"]["options"], shallow.uns["xtrimogene_denoised"]["blend"]

# %% [markdown]
# ## Marker genes before and after

# %%
figure = xt.pl.denoised(shallow, ["CD79A", "GNLY", "S100A8"], "cell_type")

# %% [markdown]
# ## Does it tell the molecules that were removed?
#
# They were not seen, so they are an independent witness: how surprising is one of them, in nats, when each gene is
# said to have such a share of the cell's molecules? Shares of zero get 1 % of the gene mean.

# %%
done = shallow.var["xtrimogene_denoised"].to_numpy()
removed = csr_matrix(cells.X - shallow.X)[:, done]
seen = shallow.X[:, done].toarray()
mean = seen.sum(axis=0) + 0.1
rows = {
    "as counted": seen,
    "gene mean": np.repeat(mean[None], len(seen), axis=0),
    "denoised": np.expm1(shallow.layers["xtrimogene_denoised"][:, done]),
}
loss = {name: log_loss(removed, with_some_mean(shares, mean / mean.sum())).mean() for name, shares in rows.items()}
pd.Series(loss).round(3)

# %% [markdown]
# ## Many cells
#
# A path is read in blocks, and `out=` writes an .h5ad or .zarr block by block; a run that was stopped goes on when it
# is called again. `threshold=` leaves out small values and gives a sparse matrix.
#
# ```python
# xt.tl.denoise("atlas.h5ad", out="denoised.zarr", genes=["CD3D", "MS4A1"], target_depth=50_000)
# ```
#
# Values of several genes come from one prediction and the same neighbours: genes may look correlated that are not. Look
# at denoised values and cluster with them; test on the counts. `benchmarks/results/denoising.md` measures both, beside
# simpler methods.
#
# The prediction alone, also of genes that were not measured, is `xt.get.expression(cells, read_depth="t4")`:

# %%
xt.get.expression(cells[:3].copy(), genes=["CD79A", "GNLY", "LYZ"], read_depth="t4").round(2)
