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
# # Embed an atlas
#
# A hundred million cells are thousands of files. Each is read by itself and gives one Parquet, written under a
# temporary name and renamed: kill any process, any machine, at any moment, and the same command goes on. Needs the
# extra `parquet`, on a Ray cluster `distributed`.
#
# On a command line:
#
# ```bash
# xtrimogene atlas embed shards/*.h5ad vectors                       # one after another
# xtrimogene atlas embed shards/*.h5ad vectors --task $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
# xtrimogene atlas embed shards/*.h5ad vectors --ray 8 --gpus        # an actor for each GPU
# ```

# %%
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import xtrimogene as xt
from xtrimogene.demo import sample_cells

place = Path("atlas")
place.mkdir()
cells = sample_cells()
for number, rows in enumerate(np.array_split(np.arange(cells.n_obs), 4)):
    cells[rows].write_h5ad(place / f"shard{number}.h5ad")
shards = sorted(place.glob("*.h5ad"))

# %% [markdown]
# ## One task of two stops half-way
#
# Each task of a cluster's array does its share of the shards.

# %%
work = xt.atlas.EmbedWork(model="demo", precision="float16")
print(xt.atlas.run(shards, place / "vectors", work, task=0, num_tasks=2))

# %% [markdown]
# ## The rest
#
# What is done is not done again; a price for the machine an hour gives the cost of a million cells.

# %%
print(xt.atlas.run(shards, place / "vectors", work, price=1.5))

# %% [markdown]
# Beside each table lies its record: source and output with their sha256, cells, seconds, warnings.

# %%
record = json.loads((place / "vectors" / "shard0.json").read_text())
print({name: record[name] for name in ("cells", "unread", "sha256")})
table = pq.read_table(place / "vectors" / "shard0.parquet")
print(table.schema)
vectors = np.stack(table["vector"].to_numpy())
vectors.shape

# %% [markdown]
# ## Search it
#
# An index for cell search comes from these vectors; no cell is embedded again. On a command line:
# `xtrimogene atlas index shards/*.h5ad atlas-index --vectors vectors --column cell_type`.

# %%
index = xt.atlas.index_vectors(shards, place / "vectors", place / "index", columns=["cell_type"])
found = xt.tl.search(cells[:100].copy(), index, k=5, progress=False)
found.head()
