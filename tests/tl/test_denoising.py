"""`tl.denoise`: a layer, a table or a file; never less than what was counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix, issparse

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.errors import ConfigError, CountsError, GeneMatchError
from xtrimogene.evaluation.baselines import log_normalize
from xtrimogene.tl import denoised_file, denoising
from xtrimogene.tl.denoising import denoise

MakeCells = Callable[..., AnnData]
LAYER = "xtrimogene_denoised"


@pytest.fixture
def cells(make_cells: MakeCells) -> AnnData:
    return make_cells(30)


def counts_of(cells: AnnData, model: PretrainedModel, **options: Any) -> np.ndarray:
    return np.asarray(denoise(cells.copy(), model, unit="counts", **options).layers[LAYER])


def test_a_layer_of_the_cells_and_nothing_else_changes(tiny_model: PretrainedModel, cells: AnnData) -> None:
    before = cells.X.copy()
    assert denoise(cells, tiny_model) is cells
    values = cells.layers[LAYER]
    assert values.shape == cells.shape and values.dtype == np.float32 and np.isfinite(values).all()
    assert (before != cells.X).nnz == 0 and cells.var[LAYER].all()
    record = cells.uns[LAYER]
    assert record["options"]["target_depth"] == 10 * before.sum(axis=1).max()
    assert record["model"] == "tiny" and record["blend"]["num_neighbors"] > 0


def test_expected_counts_add_up_to_the_depth_and_hold_those_seen(tiny_model: PretrainedModel, cells: AnnData) -> None:
    deepest = float(cells.X.sum(axis=1).max())
    expected = counts_of(cells, tiny_model, target_depth=2 * deepest)
    np.testing.assert_allclose(expected.sum(axis=1), 2 * deepest, rtol=1e-4)
    assert (expected >= cells.X.toarray() - 1e-4).all()


def test_at_its_own_depth_a_cell_stays_what_it_is(tiny_model: PretrainedModel, cells: AnnData) -> None:
    totals = np.asarray(cells.X.sum(axis=1)).ravel()
    deepest = int(totals.argmax())
    expected = counts_of(cells, tiny_model, target_depth=float(totals.max()))
    np.testing.assert_allclose(expected[deepest], cells.X[deepest].toarray()[0], atol=1e-4)


def test_log1p_is_per_ten_thousand(tiny_model: PretrainedModel, cells: AnnData) -> None:
    expected = counts_of(cells, tiny_model, target_depth=5_000)
    values = denoise(cells, tiny_model, target_depth=5_000).layers[LAYER]
    np.testing.assert_allclose(values, np.log1p(expected / 5_000 * 1e4), atol=1e-4)


def test_genes_by_name_and_the_other_columns_are_not_numbers(tiny_model: PretrainedModel, cells: AnnData) -> None:
    whole = denoise(cells.copy(), tiny_model).layers[LAYER]
    denoise(cells, tiny_model, genes=[cells.var_names[7], cells.var_names[3]])
    asked = np.isin(np.arange(cells.n_vars), [3, 7])
    assert (cells.var[LAYER].to_numpy() == asked).all()
    assert np.isnan(cells.layers[LAYER][:, ~asked]).all()
    np.testing.assert_allclose(cells.layers[LAYER][:, asked], whole[:, asked], atol=1e-5)


def test_sparse_above_a_threshold(tiny_model: PretrainedModel, cells: AnnData) -> None:
    whole = denoise(cells.copy(), tiny_model).layers[LAYER]
    sparse = denoise(cells, tiny_model, threshold=3).layers[LAYER]
    assert issparse(sparse)
    np.testing.assert_allclose(sparse.toarray(), np.where(whole >= 3, whole, 0), atol=1e-5)
    assert 0 < sparse.nnz < whole.size


def test_blocks_do_not_change_the_numbers(
    tiny_model: PretrainedModel, cells: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = denoise(cells.copy(), tiny_model).layers[LAYER]
    monkeypatch.setattr(denoising, "_BLOCK_BYTES", 4 * 400 * 7)
    np.testing.assert_allclose(denoise(cells, tiny_model, token_budget=1).layers[LAYER], whole, atol=1e-5)


def test_log1p_of_counts_is_reversed(tiny_model: PretrainedModel, cells: AnnData) -> None:
    wanted = denoise(cells.copy(), tiny_model).layers[LAYER]
    cells.X = log_normalize(csr_matrix(cells.X))
    found = denoise(cells, tiny_model).layers[LAYER]
    np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("threshold", [None, 2.0])
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_a_file_holds_the_same(
    tiny_model: PretrainedModel, cells: AnnData, tmp_path: Path, suffix: str, threshold: float | None
) -> None:
    wanted = denoise(cells.copy(), tiny_model, threshold=threshold).layers[LAYER]
    source, out = tmp_path / "cells.h5ad", tmp_path / f"denoised{suffix}"
    cells.write_h5ad(source)
    table = denoise(source, tiny_model, out=out, threshold=threshold)
    assert table.X is None and list(table.obs_names) == list(cells.obs_names)
    written = anndata.read_h5ad(out) if suffix == ".h5ad" else anndata.read_zarr(out)
    assert {path.name for path in tmp_path.iterdir()} == {source.name, out.name}
    assert written.uns[LAYER]["options"]["unit"] == "log1p" and list(written.obs_names) == list(cells.obs_names)
    order = [cells.var_names.get_loc(name) for name in written.var_names]
    dense = [one.toarray() if issparse(one) else one for one in (written.X, wanted)]
    np.testing.assert_allclose(dense[0], dense[1][:, order], atol=1e-5)
    in_memory = denoise(source, tiny_model, threshold=threshold).X
    np.testing.assert_allclose(in_memory.toarray() if issparse(in_memory) else in_memory, dense[0], atol=1e-6)


def test_a_file_with_more_cells_than_are_kept_holds_the_same(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoising, "FITTED_CELLS", 25)
    monkeypatch.setattr(denoising, "KEPT_CELLS", 40)
    monkeypatch.setattr(denoising, "_BLOCK_BYTES", 4 * 400 * 16)
    cells = make_cells(70)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    table = denoise(tmp_path / "cells.h5ad", tiny_model, out=tmp_path / "denoised.h5ad")
    denoise(cells, tiny_model)
    written = anndata.read_h5ad(tmp_path / "denoised.h5ad").X
    order = [cells.var_names.get_loc(name) for name in table.var_names]
    np.testing.assert_array_equal(written, cells.layers[LAYER][:, order])
    again = denoise(make_cells(70), tiny_model, seed=0).layers[LAYER]
    np.testing.assert_array_equal(again, cells.layers[LAYER])


def test_a_cell_of_few_counts_is_told_by_the_others(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells(40)
    counts = cells.X.tolil()
    counts[4] = 0
    counts[4, [3, 9]] = 1, 2
    cells.X = csr_matrix(counts)
    expected = counts_of(cells, tiny_model, target_depth=1e5)
    assert np.isfinite(expected).all() and (expected[4] > 0).all()
    np.testing.assert_allclose(expected[4].sum(), 1e5, rtol=1e-4)


def test_a_run_that_was_stopped_goes_on(
    tiny_model: PretrainedModel, cells: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "denoised.h5ad"
    monkeypatch.setattr(denoising, "_BLOCK_BYTES", 4 * 400 * 8)
    written: list[int] = []
    put = denoised_file.PartialMatrix.put

    def stopping(self: denoised_file.PartialMatrix, first_row: int, block: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(first_row)
        put(self, first_row, block)

    monkeypatch.setattr(denoised_file.PartialMatrix, "put", stopping)
    with pytest.raises(KeyboardInterrupt):
        denoise(cells, tiny_model, out=out)
    assert not out.exists()
    with pytest.raises(ConfigError, match="parts of another run, with options=.*; remove it, or name another file"):
        denoise(cells, tiny_model, out=out, target_depth=1e6)
    written[:] = [-1, -1, -1]  # three more would be too many: two of the four are there
    denoise(cells, tiny_model, out=out)
    assert written[3:] == [16, 24]
    np.testing.assert_allclose(
        anndata.read_h5ad(out).X[:, 0],
        denoise(cells, tiny_model).layers[LAYER][:, cells.var_names.get_loc(tiny_model.genes.symbols[0])],
        atol=1e-5,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["denoised.h5ad"]


def test_cells_without_counts_are_not_numbers(tiny_model: PretrainedModel, cells: AnnData) -> None:
    counts = cells.X.tolil()
    counts[4] = 0
    cells.X = csr_matrix(counts)
    with pytest.warns(UserWarning, match="1 of 30 cells have no counts"):
        denoise(cells, tiny_model)
    assert np.isnan(cells.layers[LAYER][4]).all() and np.isfinite(np.delete(cells.layers[LAYER], 4, 0)).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target_depth": 20}, ConfigError, "below the .* counts of cell row"),
        ({"target_depth": 0}, ConfigError, "no number of counts"),
        ({"target_depth": -3.0}, ConfigError, "no number of counts"),
        ({"target_depth": float("nan")}, ConfigError, "no number of counts"),
        ({"target_depth": 1e15}, ConfigError, "no number of counts"),
        ({"genes": ["NOT_A_GENE"]}, GeneMatchError, "no gene 'NOT_A_GENE'"),
        ({"threshold": 0.0}, ConfigError, "above 0"),
        ({"input_kind": "log1p"}, ConfigError, "weighs molecules"),
        ({"max_gigabytes": 1e-6}, ConfigError, "max_gigabytes"),
        ({"max_gigabytes": 1e-6, "threshold": 0.1}, ConfigError, "max_gigabytes"),
        ({"out": "denoised.csv"}, ConfigError, "end in .h5ad or .zarr"),
        ({"out": "nowhere/denoised.h5ad"}, ConfigError, "does not exist"),
    ],
)
def test_what_cannot_be_is_refused(
    tiny_model: PretrainedModel, cells: AnnData, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        denoise(cells, tiny_model, **options)
    assert LAYER not in cells.layers


def test_a_file_that_exists_is_left_alone(tiny_model: PretrainedModel, cells: AnnData, tmp_path: Path) -> None:
    out = tmp_path / "there.h5ad"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        denoise(cells, tiny_model, out=out)
    assert out.read_text() == "mine"


def test_a_gene_that_was_not_measured_is_refused(tiny_model: PretrainedModel, cells: AnnData) -> None:
    absent = cells.var_names[0]
    with pytest.raises(GeneMatchError, match=f"{absent}: not measured"):
        denoise(cells[:, 1:].copy(), tiny_model, genes=[absent])


def test_too_few_cells_to_calibrate_on(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    with pytest.raises(CountsError, match="at least 20"):
        denoise(make_cells(5), tiny_model)
