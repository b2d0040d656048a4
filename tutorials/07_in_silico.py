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
# # Edit genes in silico
#
# Which genes does a cell's vector rest on? Take a gene's counts away, or add some, embed the cells again, and see how
# far and where they move, beside what random genes of like expression do. It asks the model, not the cell: a sweep
# finds what marks a state, and benchmarks/in_silico.py measures how much of it is cause. Real blood cells (Hao 2021),
# in the package; the model never saw them.

# %%
import tempfile
import warnings
from pathlib import Path

import xtrimogene as xt
from xtrimogene.demo import sample_cells

warnings.simplefilter("ignore")
cells = sample_cells()
cells = cells[cells.obs["cell_type"].isin(["B cells", "T cells CD4 conv"])].copy()
cells.obs["cell_type"].value_counts()

# %% [markdown]
# ## Knock genes out of B cells
#
# Each name is one edit, and a tuple is one edit of several genes. Cells of `start` are edited; `toward` is how far they
# then go along the way from the mean of the B cells to that of the T cells: 1 is all of it. Only cells that express a
# gene can lose it: `changed` of them did.

# %%
options = {"state_key": "cell_type", "cells_per_group": 20, "num_random": 20, "min_cells": 3}
lost = xt.tl.in_silico(
    cells,
    knock_out=["CD79A", "CD74", "CD22", "RALGPS2", ("CD79A", "CD22")],
    start="B cells",
    genes=["MS4A1"],
    **options,
)
lost[["genes", "cells", "changed", "shift", "toward", "toward_random", "toward_z", "toward_p", "change_MS4A1"]].round(3)

# %% [markdown]
# `toward_random` is the mean of random genes that as many cells express and as much, `toward_z` how many of their
# standard deviations lie between, and `toward_p` the share of random genes as far from their own like: with 20 of them,
# never below 1 / 21. `change_MS4A1` is the change of predicted expression.

# %% [markdown]
# ## Give B cells genes of T cells
#
# Each gene is raised to a high quantile of what the cells that express it have; the cell is then normalised anew, so
# its other genes lose a little. `level="f10"` would be tenfold, `level="c20"` 20 counts per 10,000. With `out=` a
# sweep of thousands of genes goes on where it was stopped.

# %%
with tempfile.TemporaryDirectory() as folder:
    asked = {"over_express": ["CD3E", "BCL11B"], "start": "B cells", "out": Path(folder) / "sweep"}
    gained = xt.tl.in_silico(cells, **asked, **options)
    again = xt.tl.in_silico(cells, **asked, **options)  # nothing is computed twice
print("the same:", gained.equals(again))
gained[["genes", "changed", "shift", "toward", "toward_z", "toward_p"]].round(3)

# %% [markdown]
# ## Ranked
#
# Grey is where most random genes lie.

# %%
ax = xt.pl.screen(lost, "toward", title="B cells, genes knocked out", max_q=0.1)

# %% [markdown]
# ## What this does not say
#
# No other gene responds to an edit: what follows in a real cell is not computed. A gene that only marks a state moves
# cells towards it as one that brings it about does. What shows no count may be expressed. And p speaks of genes, not of
# donors.
