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
# # Search for cells
#
# Which cells, of all that were embedded, are most like this one? An index is built once, lies on disk, and answers in
# milliseconds; results carry label, donor and study. Real blood cells (Hao 2021), in the package; the model never saw
# them. It needs the extra `search` (usearch).

# %%
import warnings

import numpy as np
import pandas as pd

import xtrimogene as xt
from xtrimogene.demo import HELD_OUT_LANES, sample_cells
from xtrimogene.evaluation.retrieval import RetrievalScores

warnings.simplefilter("ignore", FutureWarning)
cells = sample_cells()
new = cells.obs["lane"].isin(HELD_OUT_LANES).to_numpy()
known, query = cells[~new].copy(), cells[new].copy()
query = query[np.random.default_rng(0).permutation(query.n_obs)[:200]].copy()
print(f"{known.n_obs} cells to search, {query.n_obs} that ask, of other lanes")

# %% [markdown]
# ## An index
#
# Cells may be in memory or in files, one or many: `xt.tl.build_index(["a.h5ad", "b.h5ad"], "atlas-index")`. Columns of
# text in `obs` are kept beside the vectors.

# %%
index = xt.tl.build_index(known, "blood-index")
print(len(index.vectors), "cells with", ", ".join(index.cells.columns))

# %% [markdown]
# ## The nearest cells
#
# The score is a cosine, of embeddings and, with half of the weight, of expression, counted from the mean of the index:
# 1 is the same direction, 0 is as far as chance.

# %%
hits = xt.tl.search(query, index, k=10)
hits.head(10)[["query", "rank", "score", "cell_type", "lane"]]

# %% [markdown]
# ## Are they right?
#
# Here we know the type of the cells that ask. Every indexed cell of that type is a right answer; `mmrr` is the mean of
# 1 / rank over all of them, and falls with their number, so it is also given as a share of the best there can be.

# %%
true = query.obs["cell_type"].astype(str)
right = (hits["cell_type"].astype(str).to_numpy() == true.loc[hits["query"]].to_numpy()).reshape(-1, 10)
number = known.obs["cell_type"].value_counts().reindex(true, fill_value=0).to_numpy()
scores = RetrievalScores.of(right[number > 0], number[number > 0])
print(f"the first is right: {right[:, 0].mean():.2f}   of ten: {right.mean():.2f}")
print(f"MRR {scores.mrr.mean():.3f}   MAP@10 {scores.map.mean():.3f}   ", end="")
print(f"MMRR {scores.mmrr.mean():.3f}, {scores.mmrr_of_best.mean():.3f} of the best there can be")

# %%
by_type = pd.Series(right.mean(axis=1), index=true.to_numpy()).groupby(level=0).agg(["mean", "size"])
by_type.rename(columns={"mean": "of ten, right", "size": "cells that asked"}).round(2)

# %% [markdown]
# ## Filters
#
# Only some donors, tissues, studies: any text of a column, and all columns at once. With `exact=True` every cell is
# compared; up to 10,000 cells always are.

# %%
lane = known.obs["lane"].astype(str).iloc[0]
few = xt.tl.search(query[:2].copy(), index, k=3, where={"lane": lane, "cell_type": ["B cells", "NK cells"]})
few[["query", "rank", "score", "cell_type", "lane"]]

# %% [markdown]
# ## From the command line
#
# ```
# xtrimogene index blood.h5ad lung.h5ad atlas-index --column cell_type --column donor_id
# xtrimogene search cells.h5ad atlas-index hits.csv --where tissue=blood
# ```
#
# The README says how fast and how exact it is at a million cells, and where HVG + PCA finds types better.
