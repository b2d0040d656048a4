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
# # Pre-train on your own cells
#
# From files of counts to a model that `xt.tl.embed` takes: a store on disk, a run that may be killed at any moment, its
# losses, and which cells the model has seen. Everything here is small (real blood cells of Hao 2021, in the package; a
# minute of one CPU core) and works the same on tens of millions of cells and many GPUs.

# %%
import logging
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import xtrimogene as xt
from xtrimogene.config import MaskingConfig, OptimizerConfig, SamplingConfig, StoreConfig
from xtrimogene.data.store_builder import build_store
from xtrimogene.data.store_summary import summarize
from xtrimogene.demo import sample_cells
from xtrimogene.training import PretrainConfig, pretrain

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
cells = sample_cells()
print(cells.obs["lane"].value_counts().to_dict())

# %% [markdown]
# ## Keep some cells aside
#
# Losses are only honest on cells of other donors or batches than those trained on. Here two lanes of the sequencer are
# kept aside.

# %%
aside = cells.obs["lane"].isin(sorted(cells.obs["lane"].unique())[-2:]).to_numpy()
cells[aside].copy().write_h5ad("aside.h5ad")
train = np.flatnonzero(~aside)
for number, rows in enumerate(np.array_split(train, 2)):  # as two files, as they come from two labs
    cells[rows].copy().write_h5ad(f"lab{number}.h5ad")
print(f"{len(train)} cells to train on, {aside.sum()} aside")

# %% [markdown]
# ## Build a store
#
# `xtrimogene store build lab0.h5ad lab1.h5ad cells.zarr` does the same from the shell. Genes are matched once, cells
# are shuffled over all files with bounded memory, and each cell keeps its file, its donor and a hash. Files can be
# trained on without a store as well; a store is for many cells.

# %%
build_store(StoreConfig(files=("lab0.h5ad", "lab1.h5ad"), output="cells.zarr", donor_key="lane"), progress=False)
print(summarize("cells.zarr"))

# %% [markdown]
# ## Train
#
# The same settings stand in a TOML for `xtrimogene pretrain run.toml`. What a step reads is a function of the seed and
# the step alone: killed at any moment, the same command goes on from the last checkpoint to weights that are equal to
# the bit, and with `--devices 4` it reads the same cells at each step on four devices. `sampling.num_lanes` is the
# largest number of devices that may ever share a step.

# %%
config = PretrainConfig(
    files=("cells.zarr",),
    output="run",
    preset="demo",
    num_steps=30,
    batch_size=16,
    latent_weight=1.0,
    latent_kl_weight=1e-4,
    decoder_share=0.05,
    start="spectral",
    checkpoint_every=15,
    log_every=2,
    validation_files=("aside.h5ad",),
    validation_cells=16,
    validate_every=10,
    sampling=SamplingConfig(num_lanes=2),
    masking=MaskingConfig(max_visible=192),
    optimizer=OptimizerConfig(peak_lr=5e-4, warmup_steps=5),
)
model = pretrain(config)
print(model)
print(sorted(str(path.relative_to("run")) for path in Path("run").rglob("*") if path.is_file()))

# %% [markdown]
# ## Look at the losses
#
# `run/log` has them as CSV; `tensorboard = true` writes TensorBoard events as well. The validation loss is that of
# cells of the lanes kept aside, always with the same genes hidden.

# %%
losses, aside_losses = (pd.read_csv(f"run/log/{name}.csv") for name in ("metrics", "validation"))
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(losses["step"], losses["latent_loss"], label="training")
left.plot(aside_losses["step"], aside_losses["latent"], "o-", label="kept aside")
left.set(xlabel="step", ylabel="squared error", yscale="log", title="all genes, through the cell vector")
right.plot(losses["step"], losses["decoder_loss"], label="training")
right.plot(aside_losses["step"], aside_losses["decoder"], "o-", label="kept aside")
right.set(xlabel="step", title="hidden genes, through the decoder")
for axes in (left, right):
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## Use it, and know what it has seen
#
# The folder `run/model` is a checkpoint like any other. Hashes of the cells travel with it, so that a test set can be
# checked against the training data before anybody believes a figure. (Cells of fewer than 200 genes were left out.)

# %%
model = xt.load("run/model")
seen = xt.was_seen(cells, model, progress=False)
print(f"seen: {seen[~aside].mean():.0%} of the cells in the files, {seen[aside].mean():.0%} of those kept aside")
xt.tl.embed(cells, model, progress=False)
print(cells.obsm["X_xtrimogene"].shape)

# %% [markdown]
# ## When it is larger
#
# * `xtrimogene plan --preset 100M --cells 50000000 --devices 8`: memory, hours, and what to change, before you pay.
# * `xtrimogene pretrain run.toml --devices 8 --workers 2`: DDP; `--strategy fsdp` shards a model that does not fit;
#   several machines by torchrun or SLURM with `--nodes`.
# * `micro_batch_size`, `micro_batch_tokens`, `activation_checkpointing`: less memory for the same step. Where memory
#   runs out during a run, the step is cut smaller and the run goes on.
# * `weights`: how often an epoch reads each file; `in_memory = false`: leave .h5ad and .zarr where they are.
