"""What gene_network.py compares: each method's score of every pair of a transcription factor and a target.

Letters: N cells; T transcription factors; A genes, the factors among them; G genes of the model.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import read_h5ad
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix, vstack
from scipy.stats import rankdata
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import ExtraTreesRegressor

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.evaluation.baselines import highly_variable_genes, log_normalize
from xtrimogene.inference import Inference, readable_cells
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.tasks.gene_network.attention import mean_attention
from xtrimogene.tasks.gene_network.gene_vectors import VectorMethod, gene_vectors

Scores = Float[np.ndarray, "T A"]
SEEDS = (0, 1, 2)
LEAST_SHARE, LEAST_CELLS = 0.02, 20
CORPUS = (
    "pbmc3k",
    "baron_h1",
    "zheng_pbmc_donorA",
    "pbmc_10x_3chem_3k",
    "pbmc_10x_v3_400",
    "wu2020_tcells_200",
    "celltypist_sample_559",
    "wu2021_breast_CID4465",
    "darmanis_brain_466",
    "zilionis_lung_300",
    "malt_tumour_10x",
    "soupx_pbmc4k_2170",
    "rogue_lung_tumour_dc_913",
    "trex_covid_tcells_320",
    "copykat_tnbc_302",
    "npc_154",
    "li_celllines_561",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """Some cells of a data set, the genes that are looked at, and the known targets of the factors among them."""

    name: str
    counts: csr_matrix
    types: Int[np.ndarray, " N"]
    measured: Bool[np.ndarray, " G"]
    genes: Int[np.ndarray, " A"]
    factors: Int[np.ndarray, " T"]
    known: dict[str, Bool[np.ndarray, "T A"]]

    @cached_property
    def values(self) -> Float[np.ndarray, "N A"]:
        return log_normalize(self.counts)[:, self.genes].toarray().astype(np.float64)

    @property
    def rows(self) -> Int[np.ndarray, " T"]:
        """Where the factors are among the genes."""
        return np.searchsorted(self.genes, self.factors)

    @property
    def large_types(self) -> "Data":
        """Return the cells of types with enough of them, numbered anew."""
        kept = np.bincount(self.types)[self.types] >= LEAST_CELLS
        return replace(self, counts=self.counts[kept], types=np.unique(self.types[kept], return_inverse=True)[1])

    def drawn(self, number: int, seed: int = 0) -> "Data":
        """Return at most so many of the cells."""
        return self.rows_of(np.sort(np.random.default_rng(seed).permutation(self.counts.shape[0])[:number]))

    def rows_of(self, kept: Int[np.ndarray, " n"]) -> "Data":
        return replace(self, counts=self.counts[kept], types=self.types[kept])


def read_counts(path: Path, vocabulary: GeneVocabulary) -> tuple[csr_matrix, Bool[np.ndarray, " G"], pd.DataFrame]:
    cells = read_h5ad(path)
    with open_cells(cells) as source:
        matched = MatchedCounts.find(source, vocabulary)
        counts = matched.all()
    read = readable_cells(counts)
    return counts[read], matched.match.measured, cells.obs[read]


def read_known(shared: Path, vocabulary: GeneVocabulary) -> dict[str, Int[np.ndarray, "E 2"]]:
    """Return known edges by source, as places in the vocabulary, without those from a gene to itself."""
    known = {}
    for name, file in (("TRRUST", "trrust_v2_human.csv"), ("DoRothEA A-C", "dorothea_hs_ABC.csv")):
        table = pd.read_csv(shared / "data" / "tables" / file)
        ends = np.stack([vocabulary.match({"genes": table[end].tolist()}).target for end in ("tf", "target")], axis=1)
        known[name] = np.unique(ends[(ends >= 0).all(axis=1) & (ends[:, 0] != ends[:, 1])], axis=0)
    return known


def read_data(name: str, shared: Path, vocabulary: GeneVocabulary, *, num_genes: int = 2000) -> Data:
    """Look at the highly variable genes and, as in BEELINE, all factors that are expressed: in 2 % of the cells."""
    counts, measured, obs = read_counts(shared / "data" / f"{name}.h5ad", vocabulary)
    edges = read_known(shared, vocabulary)
    share = np.asarray((counts > 0).mean(axis=0)).ravel()
    factors = np.unique(np.concatenate([ends[:, 0] for ends in edges.values()]))
    factors = factors[share[factors] >= LEAST_SHARE]
    variable = highly_variable_genes(log_normalize(counts), num_genes)
    genes = np.union1d(variable[share[variable] >= 0.01], factors)
    known = {}
    for source, ends in edges.items():
        pairs = csr_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(vocabulary),) * 2)
        known[source] = pairs[factors][:, genes].toarray() > 0
    types = obs["cell_type"].astype(str).factorize()[0] if "cell_type" in obs else np.zeros(len(obs), dtype=np.int64)
    return Data(name=name, counts=counts, types=types, measured=measured, genes=genes, factors=factors, known=known)


def untrained(model: PretrainedModel, seed: int) -> PretrainedModel:
    return PretrainedModel(XTrimoGene(model.config, seed=1 + seed).eval().requires_grad_(False), model.genes)


def pearson(values: Float[np.ndarray, "N A"], rows: Int[np.ndarray, " T"]) -> Scores:
    spread = values.std(axis=0)
    unit = np.divide(values - values.mean(axis=0), spread, out=np.zeros_like(values), where=spread > 0)
    return np.asarray(unit[:, rows].T @ unit / len(unit))


def baselines(data: Data, corpus: "Corpus") -> dict[str, list[Scores]]:
    values, rows = data.values, data.rows
    mean = values.mean(axis=0)
    random = [np.random.default_rng(seed).normal(size=(len(rows), len(data.genes))) for seed in SEEDS]
    within = [pearson(values[data.types == kind], rows) for kind in np.unique(data.types)
              if (data.types == kind).sum() >= LEAST_CELLS]  # fmt: skip
    return {
        "random scores": random,
        "mean expression": [np.tile(mean, (len(rows), 1))],
        "Pearson": [pearson(values, rows)],
        "Spearman": [pearson(rankdata(values, axis=0), rows)],
        "Pearson, within types": [np.mean(within, axis=0)],
        "Pearson, training corpus": [corpus.pearson(data)],
        "PCA, training corpus": [corpus.pca(data)],
    }


def trees(data: Data, targets: Int[np.ndarray, " t"], seed: int) -> Float[np.ndarray, "T t"]:
    """Return how much each factor tells of each target, as GENIE3: importance in extremely random trees."""
    scores = np.zeros((len(data.rows), len(targets)))
    for place, target in enumerate(targets):
        used = np.flatnonzero(data.rows != target)
        forest = ExtraTreesRegressor(100, max_features="sqrt", min_samples_leaf=3, random_state=seed)
        forest.fit(data.values[:, data.rows[used]].astype(np.float32), data.values[:, target])
        scores[used, place] = forest.feature_importances_ * data.values[:, target].std()
    return scores


def by_vectors(model: PretrainedModel, data: Data, method: VectorMethod) -> Scores:
    """Return inner products; for covariation within types of cells, their mean."""
    if method == "covariation":
        data = data.large_types
    groups = data.types if method == "covariation" else np.zeros(len(data.types), dtype=np.int64)
    vectors = gene_vectors(
        Inference(model, device="cpu"), data.counts, method, genes=data.genes, groups=groups, measured=data.measured
    )
    return np.mean([one[data.rows] @ one.T for one in vectors.astype(np.float64)], axis=0)


def by_table(model: PretrainedModel, data: Data) -> Scores:
    """Return cosines of the rows of the gene table: no cells, no head."""
    table = model.network.gene_embedding.table[data.genes].numpy().astype(np.float64)
    table -= table.mean(axis=0)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return table[data.rows] @ table.T


def by_attention(model: PretrainedModel, data: Data) -> Scores:
    weights = mean_attention(Inference(model, device="cpu"), data.counts, sources=data.factors, targets=data.genes)
    return np.nan_to_num(weights, nan=0.0)


class Corpus:
    """Cells that the model was trained on: what is known of genes from the same data without a network."""

    def __init__(self, shared: Path, vocabulary: GeneVocabulary, num_components: int) -> None:
        read = [read_counts(shared / "data" / f"{name}.h5ad", vocabulary)[0] for name in CORPUS]
        self.values = vstack([log_normalize(counts) for counts in read], format="csr")
        self.loadings = TruncatedSVD(num_components, random_state=0, n_iter=3).fit(self.values).components_.T  # (G, P)

    def pearson(self, data: Data) -> Scores:
        values = self.values[:, data.genes]
        mean = np.asarray(values.mean(axis=0)).ravel()
        square = np.asarray(values.multiply(values).mean(axis=0)).ravel()
        covariance = (values[:, data.rows].T @ values).toarray() / values.shape[0] - np.outer(mean[data.rows], mean)
        spread = np.sqrt((square - mean**2).clip(min=1e-12))
        return np.asarray(covariance / np.outer(spread[data.rows], spread))

    def pca(self, data: Data) -> Scores:
        """Of several ways to weigh the axes the best one on pbmc3k and baron_h1: all alike, and not centred."""
        loadings = self.loadings[data.genes].astype(np.float64)
        return loadings[data.rows] @ loadings.T
