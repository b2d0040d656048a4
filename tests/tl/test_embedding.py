"""`tl.embed`: what it writes, that it changes nothing else, and that a cell's vector is its own."""

import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from anndata import AnnData, read_h5ad
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_matrix, csr_matrix

import xtrimogene as xt
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import Pool
from xtrimogene.data import matched_counts
from xtrimogene.demo import sample_cells
from xtrimogene.errors import CheckpointError, ConfigError, FieldError, FileFormatError, GeneMatchError
from xtrimogene.inference import Inference
from xtrimogene.model.xtrimogene import XTrimoGene

MakeCells = Callable[..., AnnData]
KEY = "X_xtrimogene"


def vectors(cells: AnnData | Path, model: PretrainedModel | str, **options: object) -> np.ndarray:
    return xt.tl.embed(cells, model, **options).obsm[KEY]


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pool", ["latent", "all", "max", "mean"])
def test_the_demo_model_gives_a_cell_its_own_vector(pool: Pool) -> None:
    cells = sample_cells()[::60].copy()
    together = vectors(cells.copy(), "demo", pool=pool)
    for budget in (1, 3000):
        close(vectors(cells[::-1].copy(), "demo", pool=pool, token_budget=budget)[::-1], together)


def test_writes_in_place_and_leaves_the_rest(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells()
    before = cells.copy()
    assert xt.tl.embed(cells, tiny_model) is cells
    assert cells.obsm[KEY].shape == (12, 12) and cells.obsm[KEY].dtype == np.float32
    assert np.isfinite(cells.obsm[KEY]).all() and len(np.unique(cells.obsm[KEY][:, 0])) == 12
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(cells.X, part), getattr(before.X, part))
    assert cells.obs.equals(before.obs) and cells.var.equals(before.var)
    assert list(cells.obsm) == [KEY] and list(cells.uns) == ["xtrimogene"]


def test_unsorted_rows_stay_unsorted(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    wanted = vectors(make_cells(), tiny_model)
    cells = make_cells()
    starts = cells.X.indptr
    for row in range(cells.n_obs):
        for part in (cells.X.data, cells.X.indices):
            part[starts[row] : starts[row + 1]] = part[starts[row] : starts[row + 1]][::-1].copy()
    cells.X.has_sorted_indices = False
    indices = cells.X.indices.copy()
    close(vectors(cells, tiny_model), wanted)
    np.testing.assert_array_equal(cells.X.indices, indices)


def test_the_record_says_what_was_done(tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path) -> None:
    cells = xt.tl.embed(make_cells(), tiny_model, pool="max", read_depth="t4")
    record = cells.uns["xtrimogene"]
    assert (record["model"], record["version"]) == ("tiny", xt.__version__)
    assert record["options"]["pool"] == "max" and record["options"]["read_depth"] == "t4"
    assert record["options"]["matrix"] == "X" and record["options"]["read_as"] == "counts"
    assert record["genes"]["num_matched_genes"] == 400 and record["genes"]["share_of_counts"] == 1
    cells.write_h5ad(tmp_path / "cells.h5ad")
    kept = read_h5ad(tmp_path / "cells.h5ad").uns["xtrimogene"]
    assert kept["model"] == "tiny" and kept["genes"]["by_rule"]["symbol"] == 400


def test_two_embeddings_keep_two_records(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = xt.tl.embed(make_cells(), tiny_model)
    xt.tl.embed(cells, tiny_model, pool="all", key_added="X_all")
    assert cells.obsm["X_all"].shape == (12, 64) and cells.obsm[KEY].shape == (12, 12)
    assert cells.uns["all"]["options"]["pool"] == "all" and cells.uns["xtrimogene"]["options"]["pool"] == "latent"


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_path_gives_the_same_without_x(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path, suffix: str
) -> None:
    cells = make_cells(30)
    path = tmp_path / f"cells.{suffix}"
    if suffix == "h5ad":
        cells.write_h5ad(path)
    else:
        with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=3):
            warnings.simplefilter("ignore")  # version 3 will shard by default
            cells.write_zarr(path)
    found = xt.tl.embed(path, tiny_model)
    assert found.X is None and found.n_obs == 30
    assert found.obs["cell_type"].equals(cells.obs["cell_type"])
    close(found.obsm[KEY], vectors(cells, tiny_model))
    found.write_h5ad(tmp_path / "out.h5ad")
    assert read_h5ad(tmp_path / "out.h5ad").uns["xtrimogene"]["genes"]["share_of_counts"] == 1


@pytest.mark.parametrize("key", ["", "X_", "X_a/b", "/", ".", "X_.."])
def test_a_key_that_no_file_can_hold_is_refused(tiny_model: PretrainedModel, make_cells: MakeCells, key: str) -> None:
    with pytest.raises(ConfigError, match="cannot be written to a file; a name such as 'X_xtrimogene'"):
        xt.tl.embed(make_cells(), tiny_model, key_added=key)


def test_vectors_that_are_no_numbers_are_not_called_empty_cells(
    tiny_model: PretrainedModel, make_cells: MakeCells
) -> None:
    broken = XTrimoGene(tiny_model.config).eval().requires_grad_(False)
    broken.latent_head.to_latent.bias.fill_(np.nan)
    cells = make_cells()
    with pytest.raises(CheckpointError, match="vectors of 12 of 12 cells are no finite numbers: the weights of 'bad'"):
        xt.tl.embed(cells, PretrainedModel(broken, tiny_model.genes, name="bad"))
    assert not cells.obsm


def test_a_table_of_cells_that_cannot_be_read_is_told_before_the_work(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_cells().write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        del file["obs/cell_type"]

    def work(*_: object, **__: object) -> None:
        raise AssertionError("cells were embedded")

    monkeypatch.setattr(Inference, "cell_embeddings", work)
    with pytest.raises(FileFormatError, match="cell_type"):
        xt.tl.embed(tmp_path / "cells.h5ad", tiny_model)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True),
    token_budget=st.sampled_from([1, 100, 500, 10**9]),
    pool=st.sampled_from(["latent", "all", "max", "mean"]),
)
def test_a_cell_has_its_vector_in_any_batch_and_order(
    tiny_model: PretrainedModel, make_cells: MakeCells, rows: list[int], token_budget: int, pool: str
) -> None:
    cells = make_cells()
    wanted = vectors(cells, tiny_model, pool=pool)
    found = vectors(cells[rows].copy(), tiny_model, pool=pool, token_budget=token_budget)
    close(found, wanted[rows])


def test_the_order_of_genes_and_the_kind_of_matrix_do_not_matter(
    tiny_model: PretrainedModel, make_cells: MakeCells
) -> None:
    cells = make_cells()
    wanted = vectors(cells.copy(), tiny_model)
    for kind in (csc_matrix, np.asarray):
        other = cells[:, ::-1].copy()
        other.X = kind(other.X.toarray())
        close(vectors(other, tiny_model), wanted)


def test_log1p_layers_and_raw_give_the_vectors_of_the_counts(
    tiny_model: PretrainedModel, make_cells: MakeCells
) -> None:
    cells = make_cells()
    wanted = vectors(cells.copy(), tiny_model)
    logged = cells.copy()
    logged.X = csr_matrix(np.log1p(logged.X.toarray() * 1e4 / logged.X.sum(axis=1).A).astype(np.float32))
    close(vectors(logged.copy(), tiny_model), wanted)
    scaled = cells.copy()
    scaled.X = (cells.X.toarray() - 1).astype(np.float32)
    scaled.layers["counts"] = cells.X
    close(vectors(scaled, tiny_model), wanted)
    in_raw = logged.copy()
    in_raw.raw = cells
    found = xt.tl.embed(in_raw, tiny_model)
    close(found.obsm[KEY], wanted)
    assert found.uns["xtrimogene"]["options"]["matrix"] == "raw/X"
    close(vectors(scaled, tiny_model, layer="counts"), wanted)


def test_values_taken_as_they_are(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells()
    cells.X.data = (cells.X.data * 0.7).astype(np.float32)
    with pytest.raises(xt.errors.CountsError):
        xt.tl.embed(cells, tiny_model)
    found = xt.tl.embed(cells, tiny_model, input_kind="log1p")
    assert found.uns["xtrimogene"]["options"]["read_as"] == "values"
    in_order = cells[:, list(tiny_model.genes.symbols)].X.tocsr()
    wanted = xt.inference.Inference(tiny_model).cell_embeddings(csr_matrix(in_order), normalized=True)
    close(found.obsm[KEY], wanted)


def test_bulk_tpm(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells()
    wanted = vectors(cells.copy(), tiny_model, read_depth="t6")
    cells.X = csr_matrix((cells.X.toarray() * 1e6 / cells.X.sum(axis=1).A).astype(np.float32))
    found = vectors(cells, tiny_model, kind="bulk", read_depth="t6")
    assert np.isfinite(found).all() and np.abs(found - wanted).max() > 0  # S differs: a total of a million


def test_cells_without_counts_in_the_genes_are_nan(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells()
    wanted = vectors(cells.copy(), tiny_model)
    dense = cells.X.toarray()
    dense[[2, 5]] = 0
    dense[5, 0] = 1  # T and S need a total above 1
    cells.X = csr_matrix(dense)
    with pytest.warns(UserWarning, match="2 of 12 cells have no counts") as caught:
        found = vectors(cells, tiny_model)
    assert len(caught) == 1
    assert np.isnan(found[[2, 5]]).all()
    others = np.setdiff1d(np.arange(12), [2, 5])
    close(found[others], wanted[others])


def test_repeated_cell_names(tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path) -> None:
    cells = make_cells()
    cells.obs_names = ["twin"] * 12
    cells.write_h5ad(tmp_path / "cells.h5ad")
    wanted = vectors(cells, tiny_model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Observation names are not unique")
        found = xt.tl.embed(tmp_path / "cells.h5ad", tiny_model)
    assert list(found.obs_names) == ["twin"] * 12
    close(found.obsm[KEY], wanted)


def test_repeated_genes_are_summed(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells()
    wanted = vectors(cells.copy(), tiny_model)
    half = np.floor(cells.X.toarray() / 2)
    names = [*cells.var_names, *cells.var_names]
    split = AnnData(csr_matrix(np.hstack([half, cells.X.toarray() - half]), dtype=np.float32))
    split.var["gene_symbols"] = names
    close(vectors(split, tiny_model), wanted)


def test_few_matched_counts_warn(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells()
    names = cells.var_names.to_list()
    cells.var_names = [f"LINC{9000 + gene}" if gene < 120 else name for gene, name in enumerate(names)]
    with pytest.warns(UserWarning, match="less sure below 80 %"):
        share = xt.tl.embed(cells, tiny_model).uns["xtrimogene"]["genes"]["share_of_counts"]
    assert 0.5 < share < 0.8


def test_of_a_path_the_share_is_decided_on_a_sample_and_reported_on_all(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matched_counts, "SAMPLE_ROWS", 20)
    cells = make_cells(60)
    dense = cells.X.toarray()
    dense[1::3] *= 10  # the sample is rows 0, 3, 6 ...
    dense[2::3] *= 10
    dense[1::3, :250] *= 10
    dense[2::3, :250] *= 10
    cells.X = csr_matrix(dense)
    cells.var_names = [f"LINC{9000 + gene}" if gene < 190 else name for gene, name in enumerate(cells.var_names)]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(GeneMatchError, match="at least half of the counts"):
        xt.tl.embed(cells, tiny_model)
    with pytest.warns(UserWarning) as caught:
        found = xt.tl.embed(tmp_path / "cells.h5ad", tiny_model)
    assert "do not trust the result" in str(caught[-1].message)
    assert found.uns["xtrimogene"]["genes"]["total_counts"] == dense.sum()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"read_depth": "x9"}, "read_depth='x9'"),
        ({"device": "abacus"}, "device='abacus'"),
        ({"token_budget": 0}, "token_budget=0"),
    ],
)
def test_options_that_cannot_work(
    tiny_model: PretrainedModel, make_cells: MakeCells, options: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        xt.tl.embed(make_cells(), tiny_model, **options)


def test_a_layer_that_is_not_there(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    with pytest.raises(FieldError, match="no layer 'umi'"):
        xt.tl.embed(make_cells(), tiny_model, layer="umi")


def test_a_model_may_be_a_folder(tiny_model: PretrainedModel, tiny_folder: Path, make_cells: MakeCells) -> None:
    close(vectors(make_cells(), tiny_folder), vectors(make_cells(), tiny_model))
