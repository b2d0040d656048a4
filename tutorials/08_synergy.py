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
# # Which drugs act together?
#
# A table of pairs of drugs on cell lines teaches a predictor, which answers for other pairs and lines and says what an
# answer of that kind was worth when it was held out. It needs the extra `drug` (RDKit). The drugs here are real; the
# screen is simulated, so that we know the answer.

# %%
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
from anndata import AnnData

import xtrimogene as xt
from xtrimogene.demo import sample_cells
from xtrimogene.tasks.synergy.learned import ResponseConfig

warnings.simplefilter("ignore", FutureWarning)
DRUGS = {
    "cisplatin": "[NH3][Pt]([NH3])(Cl)Cl",
    "carboplatin": "[NH3][Pt]1([NH3])OC(=O)C2(CCC2)C(=O)O1",
    "fluorouracil": "O=c1[nH]cc(F)c(=O)[nH]1",
    "gemcitabine": "NC1=NC(=O)N(C=C1)C1OC(CO)C(O)C1(F)F",
    "capecitabine": "CCCCCOC(=O)NC1=NC(=O)N(C=C1F)C1OC(C)C(O)C1O",
    "methotrexate": "CN(Cc1cnc2nc(N)nc(N)c2n1)c1ccc(cc1)C(=O)NC(CCC(=O)O)C(=O)O",
    "erlotinib": "C#Cc1cccc(Nc2ncnc3cc(OCCOC)c(OCCOC)cc23)c1",
    "gefitinib": "COc1cc2ncnc(Nc3ccc(F)c(Cl)c3)c2cc1OCCCN1CCOCC1",
    "lapatinib": "CS(=O)(=O)CCNCc1ccc(o1)-c1ccc2ncnc(Nc3ccc(OCc4cccc(F)c4)c(Cl)c3)c2c1",
    "imatinib": "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(n1)-c1cccnc1",
    "vorinostat": "ONC(=O)CCCCCCC(=O)Nc1ccccc1",
    "metformin": "CN(C)C(=N)NC(=N)N",
}
KINDS = {
    "platinum": ("cisplatin", "carboplatin"),
    "antimetabolite": ("fluorouracil", "gemcitabine", "capecitabine", "methotrexate"),
    "kinase": ("erlotinib", "gefitinib", "lapatinib", "imatinib"),
    "other": ("vorinostat", "metformin"),
}
kind = {drug: name for name, drugs in KINDS.items() for drug in drugs}

# %% [markdown]
# ## Cell lines
#
# Bulk expression, TPM or counts, one row a line. Ours are sums of ten cells of one type of blood each (Hao 2021, in the
# package), scaled to a million.

# %%
cells = sample_cells()
cell_type = cells.obs["cell_type"].astype(str).to_numpy()
random = np.random.default_rng(0)
profiles, names, tissues = [], [], []
for tissue in ("B cells", "Monocytes", "NK cells", "T cells CD4 conv", "T cells CD8", "mDC"):
    for number, places in enumerate(np.array_split(random.permutation(np.flatnonzero(cell_type == tissue))[:90], 3)):
        total = np.asarray(cells.X[places].sum(axis=0)).ravel()
        profiles.append(total * 1e6 / total.sum())
        names.append(f"{tissue} {number + 1}")
        tissues.append(tissue)
obs = pd.DataFrame({"tissue": tissues}, index=names)
lines = AnnData(np.array(profiles, dtype=np.float32), obs=obs, var=cells.var[[]].copy())
lines

# %% [markdown]
# ## A screen
#
# Here, an antimetabolite acts together with platinum on every line and with a kinase inhibitor on lymphoid lines only;
# one label in twenty is wrong. Two pairs were never measured, and some measurements are missing.

# %%
lymphoid = obs["tissue"].isin(["B cells", "NK cells", "T cells CD4 conv", "T cells CD8"])


def acts(one: str, other: str, line: str) -> bool:
    kinds = {kind[one], kind[other]}
    return kinds == {"antimetabolite", "platinum"} or (kinds == {"antimetabolite", "kinase"} and bool(lymphoid[line]))


whole = pd.DataFrame(
    [(*pair, line, int(acts(*pair, line))) for pair in combinations(DRUGS, 2) for line in names],
    columns=["drug1", "drug2", "cell_line", "truth"],
)
whole["label"] = whole["truth"] ^ (random.random(len(whole)) < 0.05)
untested = (
    whole[["drug1", "drug2"]].apply(tuple, axis=1).isin([("cisplatin", "gemcitabine"), ("gemcitabine", "metformin")])
)
screen = whole[~untested & (random.random(len(whole)) < 0.9)]
screen.head()

# %% [markdown]
# ## Learn, and see what it is worth
#
# What is left out decides how hard the question is: a measurement, a pair of drugs, a drug, a cell line, a tissue.
# Beside ours stand additive effects of drugs and line; an interval draws what was left out anew.

# %%
config = ResponseConfig(num_epochs=30, batch_size=256, learning_rate=0.01, num_networks=2)
predictor = xt.training.fit_synergy(
    screen, lines, "synergy-predictor", drugs=DRUGS, label_key="label", tissue_key="tissue", config=config, num_folds=3
)
pd.DataFrame(
    {
        left_out: {
            "AUROC": round(one.scores["auroc"], 3),
            "from": round(one.interval.low, 3),
            "to": round(one.interval.high, 3),
            "additive": round(one.additive["auroc"], 3),
            "beats additive?": one.gain.verdict,
        }
        for left_out, one in predictor.held_out.items()
    }
).T

# %% [markdown]
# ## Ask
#
# `novelty` says what of a row was not in the table, and `held_out_auroc` what answers to such rows were worth. The
# probability is calibrated on them, so one of a new drug is nearer to even odds.

# %%
asked = pd.DataFrame(
    [
        ("gemcitabine", "cisplatin", "B cells 1"),
        ("gemcitabine", "metformin", "B cells 1"),
        ("erlotinib", "fluorouracil", "Monocytes 1"),
        ("erlotinib", "fluorouracil", "NK cells 1"),
        ("afatinib", "gemcitabine", "NK cells 1"),
    ],
    columns=["drug1", "drug2", "cell_line"],
)
more = DRUGS | {"afatinib": "CN(C)CC=CC(=O)Nc1cc2c(Nc3ccc(F)c(Cl)c3)ncnc2cc1OC1CCOC1"}
xt.tl.synergy(asked, lines, "synergy-predictor", drugs=more).round(3)

# %% [markdown]
# ## All pairs on a line
#
# A dot marks a pair that was not measured anywhere.

# %%
every = whole[whole["cell_line"] == "B cells 1"].drop(columns=["truth", "label"])
answers = xt.tl.synergy(every, lines, predictor, drugs=DRUGS)
xt.pl.synergy_matrix(answers, "B cells 1")

# %% [markdown]
# ## Single drugs
#
# The same network with one drug a row, for IC50 and alike; give logarithms.

# %%
potency = {drug: random.normal() for drug in DRUGS}
ic50 = pd.DataFrame([(drug, line) for drug in DRUGS for line in names], columns=["drug", "cell_line"])
ic50["log_ic50"] = ic50["drug"].map(potency) - ic50["cell_line"].map(lymphoid) * 1.0 + random.normal(0, 0.2, len(ic50))
single = xt.training.fit_response(ic50, lines, value_key="log_ic50", drugs=DRUGS, config=config, num_folds=3)
for left_out, one in single.held_out.items():
    print(f"{left_out:<12} RMSE {one.scores['rmse']:.2f}   additive {one.additive['rmse']:.2f}")
xt.tl.response(ic50.head(3), lines, single, drugs=DRUGS).round(2)

# %% [markdown]
# ## On a real screen
#
# The README says how this does on 12,415 measurements (O'Neil 2016): `benchmarks/results/synergy.md` has the table.
