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
# # Which protein language model to train with the budget at hand
#
# From a budget to a model, from runs to a law, and from a law back to a plan. Nothing here is trained for long: laws
# are fitted to runs that are simulated from a known one, so that you see whether a fit finds what is there, and how
# sure it may be. With runs of your own, or the released ones of Cheng et al., the same cells read them from a CSV.

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import xtrimogene as xt
from xtrimogene.protein.scaling_laws.law_text import law_text
from xtrimogene.protein.scaling_laws.runs_table import read_runs

warnings.simplefilter("ignore")

# %% [markdown]
# ## Two thousand hours of an H100

# %%
print(xt.protein.plan(gpu_hours=2000, gpu="H100", objective="mlm", max_unique_tokens=50e9))

# %% [markdown]
# The first rows say what to train: size, tokens, steps, the shape and the recipe of the authors. Then what it costs.
# Every `caution` is a reason to doubt it, and `but` is what another study would have you do instead. In brackets stands
# what 90 % of refits to equally noisy runs give. Two laws are at work, one for the size and one for the tokens; `6ND`
# says how well they agree about the budget, and `balance="tokens"` spends it to the operation.
#
# MLM and CLM want different models of the same budget:

# %%
mlm, clm = xt.protein.read_law("cheng2024:mlm"), xt.protein.read_law("cheng2024:clm")
figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
for ax, of in zip(axes, ("num_parameters", "num_tokens", "loss"), strict=True):
    xt.pl.scaling_law(mlm, clm, of=of, plans=[xt.protein.plan(1.68e22, "mlm")], ax=ax)
meeting = xt.protein.parity(mlm, clm)
print(f"one size for both: {meeting.num_parameters / 1e9:.1f} billion parameters, {meeting.flops:.2g} operations each")

# %% [markdown]
# Lines are dashed where no run was made. The point is the 10.8 billion parameters and 265 billion tokens that the law
# gives for 1.68e22 operations; the authors trained 10.7 on 263.
#
# ## A law of your own
#
# Here are runs of eight sizes at each of six budgets, with a loss that a known law gives and a noise of .01 from run to
# run. Your own would come from a CSV; `read_runs` says in one sentence what is wrong with it.

# %%
truth = {"E": 1.0, "A": 30.0, "B": 60.0, "alpha": 0.25, "beta": 0.22}
random = np.random.default_rng(0)
flops = np.repeat(np.geomspace(1e18, 1e21, 6), 8)
sizes = 0.13 * flops**0.468 * np.tile(np.geomspace(0.15, 7, 8), 6)
loss = truth["E"] + truth["A"] / sizes ** truth["alpha"] + truth["B"] / (flops / (6 * sizes)) ** truth["beta"]
loss += random.normal(scale=0.01, size=loss.shape)
pd.DataFrame({"flops": flops, "num_parameters": sizes, "loss": loss}).to_csv("runs.csv", index=False)
runs = read_runs("runs.csv")

# %%
known = {"name": "mine", "objective": "mlm", "data": "simulated"}
parabola = xt.protein.fit_isoflop(runs.flops, runs.num_parameters, runs.loss, **known)
raw = xt.protein.fit_isoflop(runs.flops, runs.num_parameters, runs.loss, minimum="raw", fit="linear", **known)
print("true exponent of N:", round(truth["beta"] / (truth["alpha"] + truth["beta"]), 3))
print(law_text(parabola))
print(law_text(raw))
xt.pl.isoflop(runs.flops, runs.num_parameters, runs.loss, law=parabola)  # fmt: skip

# %% [markdown]
# Both intervals hold the truth, and the one from the best run of each budget is many times wider: its minimum jumps
# from size to size with the noise, and least squares of N itself listens to the largest budget alone. Published laws
# are made so. The vertex of a parabola uses all runs of a budget.
#
# ## Does the loss itself have a law?

# %%
fit = xt.protein.fit_parametric(runs.num_parameters, runs.num_tokens, runs.loss, **known, num_bootstraps=50)
print(fit)

# %% [markdown]
# Every optimum that the 4,500 starts ended in is listed. `identified` is False where the runs do not pin the exponents
# down, as in both published fits of proteins; then only beta / (alpha + beta) means something.
#
# ## From the law to a plan, and to the next objective
#
# A law can be kept as a file (`xtrimogene protein fit` writes the same) and planned with.

# %%
xt.protein.write_law(parabola, "mine.json")
planned = xt.protein.plan(1e21, "mlm", law="mine.json")
best = xt.protein.plan(1e21, "mlm", law=fit.law)
print(f"{planned.num_parameters / 1e9:.2f} billion parameters, and {best.num_parameters / 1e9:.2f} by L(N, D)")

# %% [markdown]
# A model for MLM may begin with CLM, which learns from every token. Up to a share of the budget that saves more MLM
# tokens than it takes:

# %%
law = xt.protein.read_law("cheng2024:clm->mlm")
for size, budget in ((85e6, 3e19), (470e6, 3e20), (1.2e9, 1e21)):
    split = law.split(budget, size)
    print(f"{size / 1e6:5.0f}M parameters, {budget:.0e}: CLM pays for itself up to {100 * split.first_share:.0f} %")
staged = xt.protein.plan(1e21, "clm->mlm")
print(*(f"{run.objective}: {run.num_tokens / 1e9:.1f} billion tokens" for run in staged.runs), sep="\n")

# %% [markdown]
# ## Training it
#
# `xtrimogene protein pretrain run.toml` trains such a model on one device, resumably; from Python:

# %%
hemoglobin = (  # of human, the alpha chain
    "MVLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHFDLSHGSAQVKGHGKKVADALTNA"
    "VAHVDDMPNALSALSDLHAHKLRVDPVNFKLLSHCLLVTLAAHLPAEFTPAVHASLDKFLASVSTVLTSKYR"
)
with open("train.fasta", "w") as file:
    file.write("".join(f">part{start}\n{hemoglobin[start : start + 60]}\n" for start in range(0, 90, 4)))
config = xt.protein.ProteinPretrainConfig(
    files=("train.fasta",),
    output="first",
    stages=(xt.protein.ObjectiveStage(num_steps=60, clm=1.0),),
    model=xt.protein.ProteinConfig(dim=64, num_layers=2, num_heads=2, max_length=64),
    tokens_per_step=512,
    peak_lr=3e-3,
)
model = xt.protein.pretrain(config)
sampling = xt.protein.SamplingConfig(temperature=0.5, seed=1)
print(xt.protein.generate(model, prefix="MVLSPA", num_sequences=2, max_length=40, sampling=sampling))
made = xt.protein.embed_fasta("train.fasta", "vectors.h5", model)
print(made.num_proteins, "vectors of", made.dim)

# %% [markdown]
# That model has learned pieces of one protein by heart and nothing else; the point is that the same few lines train,
# read, score (`xt.protein.score_variants`) and write proteins at any size.
