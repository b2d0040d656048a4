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
# # Map cells onto a reference
#
# New cells, and labelled cells of others: where do the new ones lie among them, and what are they? One call gives one
# AnnData of both, in one space and on one UMAP, with the reference's labels. Real blood cells (Hao 2021), in the
# package; the model never saw them. Three lanes are the query, the other ten the reference.

# %%
import warnings

import numpy as np
import pandas as pd

import xtrimogene as xt
from xtrimogene.demo import HELD_OUT_LANES, sample_cells

warnings.simplefilter("ignore", FutureWarning)
cells = sample_cells()
new = cells.obs["lane"].isin(HELD_OUT_LANES).to_numpy()
reference, query = cells[~new].copy(), cells[new].copy()
reference = reference[reference.obs["cell_type"] != "Plasma cells"].copy()  # a type that the reference lacks
print(f"{reference.n_obs} labelled cells, {query.n_obs} to map")

# %% [markdown]
# ## One call
#
# Neither input is changed. `group_key` says what was measured apart (donors, studies, lanes): confidence is checked in
# groups that were held out.

# %%
mapped = xt.tl.map_to_reference(query, reference, label_key="cell_type", group_key="lane", baselines=False)
mapped

# %%
asked = mapped[mapped.obs["xtrimogene_source"] == "query"]
asked.obs[["xtrimogene_label", "xtrimogene_confidence", "xtrimogene_possible", "xtrimogene_unknown"]].head()

# %% [markdown]
# ## The map
#
# The UMAP was fitted on the reference alone, and each new cell was put on it by itself: another cell in the query would
# have moved none. Look at it for what is near; distances across the plane say little.

# %%
axes = xt.pl.reference_map(mapped)

# %% [markdown]
# ## Is it right?
#
# Here we know the types. Plasma cells are in the query alone: none of their labels can be right, and "unknown" is.

# %%
true = asked.obs["cell_type"].astype(str)
found = asked.obs["xtrimogene_label"].astype(str)
known = (true != "Plasma cells").to_numpy()
print(f"right, of the types that the reference has: {(true == found)[known].mean():.2f}")
pd.crosstab(true[~known], found[~known])

# %% [markdown]
# ## The space
#
# `obsm["X_xtrimogene"]` holds the model's embedding and, with half of its weight, HVG + PCA of the reference; distances
# in it are Euclidean. A query that lies beside the reference as a whole, as another protocol puts it, was moved
# back as a whole, and its parts a little by themselves (`align`): `uns` says whether, and what labels are worth in
# held-out lanes.

# %%
record = mapped.uns["xtrimogene_map"]
print("aligned:", record["aligned"], "  macro-F1, held out:", round(record["held_out"]["macro_f1"], 2))
places, source = mapped.obsm["X_xtrimogene"], mapped.obs["xtrimogene_source"].to_numpy()
one = np.flatnonzero(source == "query")[0]
nearest = np.linalg.norm(places[source == "reference"] - places[one], axis=1).argsort()[:5]
mapped.obs["xtrimogene_label"].iloc[[one, *nearest]]

# %% [markdown]
# ## From the command line
#
# ```
# xtrimogene map cells.h5ad known.h5ad mapped.h5ad --label-key cell_type --group-key donor_id
# ```
#
# The README says how well types and batches mix in this space, beside PCA and Harmony.
