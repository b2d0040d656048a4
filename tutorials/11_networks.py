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
# # Networks and modules of genes
#
# Which genes are tied, in which cells, and which modules do they form? Real blood cells (Hao 2021), in the package; the
# model never saw them. It needs the extra `graph` (igraph).
#
# A word first: genes that vary together need not regulate each other. Of the targets known of a transcription factor,
# few are among its heaviest edges, with this model as with any that reads expression alone;
# `benchmarks/results/gene_network.md` counts them, beside what needs no model.

# %%
import warnings

import xtrimogene as xt
from xtrimogene.demo import sample_cells

warnings.simplefilter("ignore", FutureWarning)
cells = sample_cells()
kinds = ["B cells", "Monocytes", "NK cells", "T cells CD8"]
cells = cells[cells.obs["cell_type"].isin(kinds)].copy()
cells.obs["cell_type"].value_counts().loc[kinds]

# %% [markdown]
# ## A network for each type of cell
#
# Edges from some transcription factors to the 2,000 most variable genes. `method="covariation"`, the default with
# `group_key`, is how genes vary together in all that the model was trained on, with more weight on how the cells of the
# type vary. At most 60 cells of a type are read here; a gene that less than a tenth of them express is left out.

# %%
factors = ["TBX21", "EOMES", "SPI1", "CEBPB", "CEBPD", "PAX5", "EBF1", "TCF4", "LEF1", "TCF7", "STAT1", "IRF7"]
edges = xt.tl.gene_network(cells, group_key="cell_type", transcription_factors=factors, max_cells=60)
edges.groupby("group").head(4)

# %% [markdown]
# The table is also in `cells.uns["xtrimogene_network"]`, with how it was made, and goes into an .h5ad.

# %%
xt.pl.network(edges, ["TBX21"], group="NK cells", top=25)
# %%
xt.pl.network(edges, ["CEBPB"], group="Monocytes", top=25)
# %% [markdown]
# ## The heaviest edges of all
#
# Without factors every pair is asked. `method="factors"` is the default without `group_key`: how genes vary together in
# all that the model was trained on. The cells at hand only choose the genes. `genes=[...]` names them. Weights
# are for comparison with each other; no weight is a probability.

# %%
xt.tl.gene_network(cells, top=15)

# %% [markdown]
# ## Modules, and what they are
#
# Each gene is joined to its nearest, and Leiden finds the modules. Gene sets come from a .gmt file, such as MSigDB's,
# or a dictionary, as here: small sets of textbook markers. The background of the test is the genes looked at.

# %%
sets = {
    "B cell": ["CD79A", "CD79B", "MS4A1", "CD19", "CD22", "BANK1", "FCRL1", "BLK", "PAX5", "TCL1A", "FCER2", "VPREB3"],
    "cytotoxic": ["NKG7", "GNLY", "PRF1", "GZMA", "GZMB", "GZMH", "CST7", "FGFBP2", "KLRD1", "KLRF1", "CCL5", "TBX21"],
    "myeloid": ["LYZ", "S100A8", "S100A9", "CD14", "CST3", "FCN1", "VCAN", "TYROBP", "CSF1R", "MS4A7", "LST1", "AIF1"],
    "platelet": ["PPBP", "PF4", "GP9", "ITGA2B", "TUBB1", "TREML1", "CMTM5", "SPARC", "GNG11", "CLU", "MYL9", "ITGB3"],
    "interferon": [
        "ISG15",
        "IFI6",
        "IFI44",
        "IFI44L",
        "IFIT1",
        "IFIT2",
        "IFIT3",
        "MX1",
        "MX2",
        "OAS1",
        "RSAD2",
        "EPSTI1",
    ],
    "cell cycle": [
        "MKI67",
        "TOP2A",
        "CDK1",
        "CCNB1",
        "CCNB2",
        "BIRC5",
        "TYMS",
        "RRM2",
        "PCNA",
        "NUSAP1",
        "TPX2",
        "CENPF",
    ],
}
modules = xt.tl.gene_modules(cells, group_key="cell_type", gene_sets=sets, max_cells=60, max_p=0.01)
modules.enrichment[["module", "gene_set", "overlap", "module_size", "set_size", "fold", "adjusted_p"]].round(4)

# %%
xt.pl.enrichment(modules.enrichment)
# %% [markdown]
# How much each type expresses each module, in standard deviations of its genes:

# %%
named = modules.enrichment.drop_duplicates("module").set_index("module")["gene_set"]
scores = modules.scores.loc[named.index.astype(str)]
scores.set_index(scores.index + " (" + named.to_numpy() + ")").round(2)

# %% [markdown]
# ## Your own
#
# `xt.tl.gene_modules(adata, gene_sets="h.all.v2024.1.Hs.symbols.gmt", group_key="cell_type")` takes any .gmt. The path
# of an .h5ad or .zarr may stand in place of `adata`.
