"""`get`: arrays of the decoder, in the order that was asked for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy.sparse import csr_matrix

import xtrimogene as xt
from xtrimogene import get
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.cell_hashes import gene_keys, hash_cells
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.data.packed_cells import pack_cells
from xtrimogene.demo import sample_cells
from xtrimogene.errors import CheckpointError, ConfigError, FieldError, GeneMatchError

MakeCells = Callable[..., AnnData]


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_shapes_and_the_order_asked_for(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells(5)
    everything, values = xt.get.gene_embeddings(cells, tiny_model), xt.get.expression(cells, tiny_model)
    assert everything.shape == (5, 400, 8) and values.shape == (5, 400)
    assert everything.dtype == values.dtype == np.float32
    places = [310, 7, 7, 12]
    names = [
        tiny_model.genes.symbols[310],
        tiny_model.genes.ensembl_ids[7],
        tiny_model.genes.symbols[7],
        tiny_model.genes.ensembl_ids[12] + ".3",
    ]
    close(xt.get.gene_embeddings(cells, tiny_model, genes=names), everything[:, places])
    close(xt.get.expression(cells, tiny_model, genes=names), values[:, places])


def test_nothing_is_written(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells(3)
    xt.get.expression(cells, tiny_model)
    assert not cells.obsm and not cells.uns and not cells.layers


def test_blocks_and_files_do_not_change_the_numbers(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = make_cells(7)
    wanted = xt.get.gene_embeddings(cells, tiny_model)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setattr(get, "_BLOCK_BYTES", 2 * 400 * 8 * 4)
    close(xt.get.gene_embeddings(tmp_path / "cells.h5ad", tiny_model, token_budget=1), wanted)
    close(xt.get.gene_embeddings(cells[[4, 1]].copy(), tiny_model), wanted[[4, 1]])


def test_a_gene_that_was_not_measured_is_not_a_zero(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells(4, density=0.3)
    kept = np.arange(400) >= 100
    fewer = cells[:, kept].copy()
    zeros = cells.copy()
    zeros.X = csr_matrix(cells.X.toarray() * kept)
    difference = np.abs(
        xt.get.expression(fewer, tiny_model, through="decoder")
        - xt.get.expression(zeros, tiny_model, through="decoder")
    )
    assert difference.max() > 1e-3


def test_batches_of_an_outer_join_measured_genes_of_their_own(
    tiny_model: PretrainedModel, make_cells: MakeCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = make_cells(6, density=0.6)
    halves = [cells[:3, :300].copy(), cells[3:, 100:].copy()]
    counts = cells.X.toarray()
    counts[:3, 300:] = 0
    counts[3:, :100] = 0
    joined = AnnData(csr_matrix(counts), var=cells.var, obs={"batch": [0, 0, 0, 1, 1, 1]})
    for half in halves:  # a gene that no cell of a batch expresses is taken for unmeasured there
        half._inplace_subset_var(np.asarray(half.X.sum(0)).ravel() > 0)
    wanted = np.concatenate([xt.get.expression(half, tiny_model, through="decoder") for half in halves])
    monkeypatch.setattr(get, "_BLOCK_BYTES", 2 * 400 * 4)
    close(xt.get.expression(joined, tiny_model, joined_by="batch", through="decoder"), wanted)
    assert np.abs(xt.get.expression(joined, tiny_model, through="decoder") - wanted).max() > 1e-3
    with pytest.raises(FieldError, match="no obs column 'lane'; it has batch"):
        xt.get.expression(joined, tiny_model, joined_by="lane", through="decoder")
    joined.obs["batch"] = ["a", None, "a", "b", "b", "b"]
    with pytest.raises(FieldError, match="1 cells of .* have no 'batch' in obs; fill it in"):
        xt.get.expression(joined, tiny_model, joined_by="batch", through="decoder")


def test_the_latent_vector_takes_no_gene_for_a_zero(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells(4, density=0.3)
    kept = np.asarray(cells.X.sum(0)).ravel() > 0
    assert not kept.all()
    close(xt.get.expression(cells[:, kept].copy(), tiny_model), xt.get.expression(cells, tiny_model))
    with pytest.raises(ConfigError, match="leave it out, or set through='decoder'"):
        xt.get.expression(cells, tiny_model, joined_by="cell_type")


def test_expression_goes_through_the_latent_vector_where_there_is_one(
    tiny_model: PretrainedModel, make_cells: MakeCells
) -> None:
    cells, network = make_cells(5), tiny_model.network
    with open_cells(cells) as opened:
        packed = pack_cells(MatchedCounts.find(opened, tiny_model.genes).all())
    depth = packed.totals.log10()
    packed = network.append_read_depth(packed, depth, depth)
    latent = network.latent(network.encode(packed), packed)
    close(xt.get.expression(cells, tiny_model), network.predict_from_latent(latent, depth).numpy())
    decoded = xt.get.expression(cells, tiny_model, through="decoder")
    close(decoded, network.head(torch.from_numpy(xt.get.gene_embeddings(cells, tiny_model)).flatten(0, 1)).view(5, -1))
    assert np.abs(decoded - xt.get.expression(cells, tiny_model)).max() > 1e-3


def test_the_demo_model_tells_cells_apart_by_a_gene_it_was_not_shown() -> None:
    cells = sample_cells()[::6].copy()
    hidden = ["CD79A", "GNLY", "FCGR3A"]
    values = cells.X.toarray() / cells.X.sum(1) * 1e4
    truth = np.log1p(np.asarray(values[:, cells.var_names.get_indexer(hidden)]))
    shown = cells[:, ~cells.var_names.isin(hidden)].copy()
    predicted = xt.get.expression(shown, "demo", genes=hidden, progress=False)
    correlations = [np.corrcoef(predicted[:, gene], truth[:, gene])[0, 1] for gene in range(3)]
    assert min(correlations) > 0.5, correlations


def test_cells_without_counts_are_nan(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells(4)
    dense = cells.X.toarray()
    dense[1] = 0
    cells.X = csr_matrix(dense)
    with pytest.warns(UserWarning, match="1 of 4 cells have no counts"):
        found = xt.get.expression(cells, tiny_model)
    assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2, 3]]).all()


def test_read_depth_changes_the_prediction(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells(3)
    deeper = xt.get.expression(cells, tiny_model, read_depth="f10")
    assert np.abs(deeper - xt.get.expression(cells, tiny_model)).max() > 1e-4


def test_unknown_genes_are_named(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    with pytest.raises(GeneMatchError, match=r"no gene 'Cd3d', 'NOPE' among its 400"):
        xt.get.expression(make_cells(2), tiny_model, genes=["Cd3d", tiny_model.genes.symbols[0], "NOPE"])
    with pytest.raises(GeneMatchError, match="a list of symbols"):
        xt.get.expression(make_cells(2), tiny_model, genes="CD3D")
    with pytest.raises(GeneMatchError, match="a list of symbols"):
        xt.get.expression(make_cells(2), tiny_model, genes=[])


def test_a_result_that_would_fill_the_machine_is_refused(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells(10)
    with pytest.raises(ConfigError, match=r"10 x 400 x 8 numbers, 0.0 GB.*genes="):
        xt.get.gene_embeddings(cells, tiny_model, max_gigabytes=1e-4)
    names = list(tiny_model.genes.symbols[:3])
    assert xt.get.gene_embeddings(cells, tiny_model, genes=names, max_gigabytes=1e-4).shape == (10, 3, 8)


def test_cells_the_model_was_trained_on_are_recognized_whatever_they_come_in(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path
) -> None:
    cells = make_cells(12)
    with open_cells(cells[:8].copy()) as some:
        hashes = hash_cells(MatchedCounts.find(some, tiny_model.genes).all(), gene_keys(tiny_model.genes))
    trained = xt.load(xt.save(replace(tiny_model, cell_hashes=hashes), tmp_path / "model"))
    wanted = np.arange(12) < 8
    np.testing.assert_array_equal(xt.was_seen(cells, trained), wanted)
    order = np.random.default_rng(0).permutation(12)
    shuffled = AnnData(csr_matrix(csr_matrix(cells.X)[order][:, ::-1]), var=cells.var[::-1])
    shuffled.write_h5ad(tmp_path / "cells.h5ad", compression="gzip")
    np.testing.assert_array_equal(xt.was_seen(tmp_path / "cells.h5ad", trained), wanted[order])
    logged = cells.copy()
    logged.X = csr_matrix(np.log1p(csr_matrix(cells.X).multiply(1e4 / cells.X.sum(1).reshape(-1, 1)).toarray()))
    np.testing.assert_array_equal(xt.was_seen(logged, trained), wanted)
    changed = cells.copy()
    changed.X = csr_matrix(cells.X)
    changed.X.data[0] += 1  # one count of the first cell
    np.testing.assert_array_equal(xt.was_seen(changed, trained), wanted & (np.arange(12) > 0))
    assert not xt.was_seen(cells, replace(trained, cell_hashes=np.zeros(0, dtype=np.uint64))).any()


def test_what_cannot_be_recognized_is_said(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    with pytest.raises(CheckpointError, match="does not say which cells it was trained on"):
        xt.was_seen(make_cells(2), tiny_model)
    with pytest.raises(ConfigError, match="was_seen compares counts"):
        xt.was_seen(make_cells(2), "demo", input_kind="log1p")


@pytest.mark.shared
def test_the_demo_model_knows_its_training_cells_and_no_test_cell(shared: Path) -> None:
    assert xt.was_seen(shared / "data" / "pbmc3k.h5ad").mean() > 0.99  # cells of fewer than 200 genes were left out
    for name in ("hao_pbmc_1336", "camp_fetalcortex_220", "scdeconr_breast_260"):
        assert not xt.was_seen(shared / "data" / f"{name}.h5ad").any()


def test_the_demo_model_has_not_seen_the_bundled_cells() -> None:
    assert not xt.was_seen(sample_cells()).any()
