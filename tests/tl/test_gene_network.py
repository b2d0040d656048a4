"""Networks and modules of genes, from an AnnData or a file, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.errors import ConfigError, CountsError, FieldError, GeneMatchError
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.tl.gene_network import gene_modules, gene_network

MakeCells = Callable[..., AnnData]


@pytest.fixture
def few(tiny_model: PretrainedModel) -> dict[str, Any]:
    return {"model": tiny_model, "device": "cpu", "min_genes": 50, "min_cells": 3, "progress": False}


def silence(cells: AnnData, rows: np.ndarray, gene: str) -> None:
    counts = cells.X.toarray()
    counts[rows, cells.var_names.get_loc(gene)] = 0
    cells.X = csr_matrix(counts)


def test_edges_of_each_group_are_returned_and_kept(make_cells: MakeCells, few: dict[str, Any], tmp_path: Path) -> None:
    cells = make_cells(24, density=0.5)
    before = cells.X.copy()
    edges = gene_network(cells, group_key="cell_type", top=30, **few)
    assert list(edges.columns) == ["source", "target", "weight", "group"]
    assert edges["group"].value_counts().to_dict() == {"type 0": 30, "type 1": 30, "type 2": 30}
    assert (edges.groupby("group")["weight"].diff().dropna() <= 0).all() and (edges["source"] != edges["target"]).all()
    np.testing.assert_array_equal(cells.X.toarray(), before.toarray())
    kept = cells.uns["xtrimogene_network"]
    assert kept["method"] == "covariation" and kept["model"] == "tiny" and kept["options"]["group_key"] == "cell_type"
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = anndata.read_h5ad(tmp_path / "cells.h5ad").uns["xtrimogene_network"]["edges"]
    pd.testing.assert_frame_equal(read.reset_index(drop=True), edges, check_dtype=False)
    from_file = gene_network(tmp_path / "cells.h5ad", group_key="cell_type", top=30, **few)
    pd.testing.assert_frame_equal(from_file, edges, check_exact=False, rtol=1e-4)


def test_edges_start_from_the_factors_that_are_expressed(
    make_cells: MakeCells, few: dict[str, Any], tiny_model: PretrainedModel
) -> None:
    cells, symbols = make_cells(24, density=0.5), tiny_model.genes.symbols
    silence(cells, np.ones(24, dtype=bool), symbols[7])
    factors = [symbols[3], symbols[7], "NOGENE", tiny_model.genes.ensembl_ids[5]]
    edges = gene_network(cells, genes=list(symbols[20:30]), transcription_factors=factors, **few)
    assert set(edges["source"]) == {symbols[3], symbols[5]} and set(edges["group"]) == {"all"}
    assert set(edges["target"]) == {*symbols[20:30], symbols[3], symbols[5]} and len(edges) == 2 * 11
    assert cells.uns["xtrimogene_network"]["method"] == "factors"
    with pytest.raises(GeneMatchError, match="none of the 2 transcription factors has a count"):
        gene_network(cells, transcription_factors=[symbols[7], "NOGENE"], **few)
    with pytest.raises(GeneMatchError, match="a list of symbols"):
        gene_network(cells, transcription_factors="TBX21", **few)


def test_the_cells_of_a_large_group_are_drawn(make_cells: MakeCells, few: dict[str, Any]) -> None:
    cells = make_cells(30, density=0.5)
    names = list(cells.var_names[:20])
    first = gene_network(cells, genes=names, method="covariation", max_cells=10, seed=1, **few)
    again = gene_network(cells, genes=names, method="covariation", max_cells=10, seed=1, **few)
    other = gene_network(cells, genes=names, method="covariation", max_cells=10, seed=2, **few)
    pd.testing.assert_frame_equal(first, again)
    assert not np.array_equal(first["weight"], other["weight"])


@pytest.mark.parametrize("method", ["context", "attention"])
def test_a_model_without_a_latent_vector_has_a_network(
    make_cells: MakeCells, few: dict[str, Any], tiny_model: PretrainedModel, method: str
) -> None:
    network = XTrimoGene(replace(tiny_model.config, latent_dim=None, pool="all")).eval()
    options = few | {"model": PretrainedModel(network, tiny_model.genes, {"name": "plain"}, name="plain")}
    cells = make_cells(40, density=0.6)
    gene_network(cells, **options)
    assert cells.uns["xtrimogene_network"]["method"] == "context"
    edges = gene_network(cells, method=method, **options)
    assert np.isfinite(edges["weight"]).all()
    with pytest.raises(ConfigError, match="needs a model with a latent cell vector"):
        gene_network(cells, method="covariation", **options)


def test_modules_their_sets_and_their_scores(
    make_cells: MakeCells, few: dict[str, Any], tmp_path: Path, tiny_model: PretrainedModel
) -> None:
    cells = make_cells(24, density=0.5)
    plain = gene_modules(cells, min_size=5, **few)
    assert set(plain.genes["gene"]) <= set(tiny_model.genes.symbols) and plain.enrichment.empty
    assert plain.scores.shape[1] == 0
    first = plain.genes.loc[plain.genes["module"] == 0, "gene"].tolist()
    sets = tmp_path / "sets.gmt"
    sets.write_text("\t".join(["FIRST", "of module 0", *first]) + "\nOTHER\t\tTP53\n")
    found = gene_modules(cells, group_key="cell_type", gene_sets=sets, min_size=5, **few)
    pd.testing.assert_frame_equal(found.genes, plain.genes)
    assert found.enrichment[["module", "gene_set", "overlap"]].values.tolist() == [[0, "FIRST", len(first)]]
    assert found.enrichment["genes"][0].split(", ") == first
    assert list(found.scores.columns) == ["type 0", "type 1", "type 2"]
    counts = cells.X.toarray()
    values = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))[:, cells.var_names.get_indexer(first)]
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    own = (cells.obs["cell_type"] == "type 1").to_numpy()
    assert found.scores.loc["0", "type 1"] == pytest.approx(standard[own].mean(), abs=1e-5)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = anndata.read_h5ad(tmp_path / "cells.h5ad").uns["xtrimogene_modules"]
    pd.testing.assert_frame_equal(read["scores"], found.scores)


def test_refused(make_cells: MakeCells, few: dict[str, Any]) -> None:
    cells = make_cells(24, density=0.5)
    with pytest.raises(GeneMatchError, match="no gene 'NOGENE'"):
        gene_network(cells, genes=["NOGENE"], **few)
    with pytest.raises(GeneMatchError, match="1 gene has no edge"):
        gene_network(cells, genes=[cells.var_names[0]] * 2, **few)
    with pytest.raises(FieldError, match="no 'kind'"):
        gene_network(cells, group_key="kind", **few)
    with pytest.raises(CountsError, match=r"'type 0' \(8\), 'type 1' \(8\), 'type 2' \(8\) of obs\['cell_type'\]"):
        gene_network(cells, group_key="cell_type", **few | {"min_cells": 9})
    with pytest.raises(ConfigError, match="min_cells=3 and max_cells=2"):
        gene_network(cells, max_cells=2, **few)
    with pytest.raises(ConfigError, match="no edge is as heavy as min_weight"):
        gene_network(cells, min_weight=1e9, **few)
    with pytest.raises(ConfigError, match="is the same in all cells"):
        gene_network(cells, method="factors", group_key="cell_type", **few)
    with pytest.raises(ConfigError, match="none of the 1 gene sets has 5 genes"):
        gene_modules(cells, gene_sets={"one": ["TP53"]}, min_size=5, **few)


def test_a_group_without_an_edge_is_named(make_cells: MakeCells, few: dict[str, Any]) -> None:
    cells = make_cells(24, density=0.5)
    name = cells.var_names[0]
    silence(cells, (cells.obs["cell_type"] == "type 2").to_numpy(), name)
    with pytest.warns(UserWarning, match="type 2: no edge there"):
        edges = gene_network(
            cells, group_key="cell_type", genes=list(cells.var_names[1:9]), transcription_factors=[name], **few
        )
    assert set(edges["group"]) == {"type 0", "type 1"}
