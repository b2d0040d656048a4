"""In-silico edits from an AnnData or a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.errors import ConfigError, CountsError, FieldError, GeneMatchError
from xtrimogene.inference import Inference
from xtrimogene.tl.in_silico import in_silico

FEW: dict[str, Any] = {"min_genes": 100, "min_cells": 2, "num_random": 20, "progress": False}


@pytest.fixture
def cells(make_cells: Callable[..., AnnData]) -> AnnData:
    adata = make_cells(24)
    adata.obs["state"] = [f"state {cell // 12}" for cell in range(24)]
    return adata


@pytest.fixture
def genes(cells: AnnData) -> list[str]:
    """Return the genes that most cells express, in no order of the model's."""
    return cells.var_names[np.argsort(-np.asarray((cells.X > 0).sum(axis=0)).ravel(), kind="stable")].tolist()


def test_a_row_for_each_edit(cells: AnnData, genes: list[str], tiny_model: PretrainedModel) -> None:
    before = cells.copy()
    one, two, three = genes[:3]
    table = in_silico(cells, tiny_model, knock_out=[one, (one, two)], over_express=[three], genes=[two], **FEW)
    assert table["edit"].tolist() == ["knock-out", "knock-out", "over-expression"]
    assert table["genes"][0] == one and set(table["genes"][1].split(" + ")) == {one, two}
    dense = pd.DataFrame(cells.X.toarray(), columns=cells.var_names)
    assert table["changed"].tolist()[:2] == [(dense[one] > 0).sum(), ((dense[one] > 0) | (dense[two] > 0)).sum()]
    assert (table["cells"] == 24).all() and "group" not in table and "toward" not in table
    assert {"shift", "cosine", "shift_random", "shift_random_sd", "shift_z", "shift_p", "shift_q"} < set(table)
    assert np.isfinite(table[f"change_{two}"]).all() and table["shift_p"].between(1 / 21, 1).all()
    assert (table["shift_q"] >= table["shift_p"]).all()
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    assert (cells.X != before.X).nnz == 0 and not cells.uns and not cells.obsm


def test_the_shift_is_that_of_cells_edited_by_hand(
    cells: AnnData, genes: list[str], tiny_model: PretrainedModel
) -> None:
    table = in_silico(cells, tiny_model, knock_out=genes[:1], **FEW | {"num_random": 0})
    edited, dense = cells.copy(), cells.X.toarray()
    dense[:, cells.var_names.get_loc(genes[0])] = 0
    edited.X = csr_matrix(dense)
    place = tiny_model.genes.places(cells.var_names.tolist())
    inference = Inference(tiny_model, device="cpu")

    def vectors(adata: AnnData) -> np.ndarray:
        return inference.cell_embeddings(adata.X[:, np.argsort(place)].tocsr())

    has = cells.X[:, cells.var_names.get_loc(genes[0])].toarray().ravel() > 0
    shift = np.linalg.norm(vectors(edited) - vectors(cells), axis=1)[has].mean()
    np.testing.assert_allclose(table["shift"], [shift], atol=1e-5)
    assert "shift_z" not in table


def test_the_way_to_a_state_is_measured_in_cells_of_the_other(
    cells: AnnData, genes: list[str], tiny_model: PretrainedModel
) -> None:
    options = FEW | {"knock_out": genes[:2], "state_key": "state", "group_key": "cell_type"}
    table = in_silico(cells, tiny_model, toward="state 1", **options)
    assert table["group"].tolist() == ["type 0", "type 1", "type 2"] * 2 and (table["cells"] == 4).all()
    assert np.isfinite(table["toward"]).all() and table["toward_p"].between(1 / 21, 1).all()
    same = in_silico(cells, tiny_model, start="state 0", **options)
    pd.testing.assert_frame_equal(table, same)
    back = in_silico(cells, tiny_model, start="state 1", **options)
    assert not np.allclose(back["shift"], table["shift"])


def test_what_changes_no_cell_of_a_group_has_no_shift(
    cells: AnnData, genes: list[str], tiny_model: PretrainedModel
) -> None:
    place = cells.var_names.get_loc(genes[0])
    dense = cells.X.toarray()
    dense[cells.obs["cell_type"] == "type 1", place] = 0
    cells.X = csr_matrix(dense)
    table = in_silico(cells, tiny_model, knock_out=genes[:1], group_key="cell_type", **FEW).set_index("group")
    assert table["changed"]["type 1"] == 0 and np.isnan(table.loc["type 1", "shift"])
    assert np.isnan(table.loc["type 1", "shift_q"]) and np.isfinite(table.loc["type 0", "shift_q"])


def test_a_file_and_any_number_of_workers_give_the_same(
    cells: AnnData, genes: list[str], tiny_model: PretrainedModel, tmp_path: Path
) -> None:
    cells.write_h5ad(tmp_path / "cells.h5ad")
    options = FEW | {"knock_out": genes[:3], "over_express": genes[3:5], "cells_per_group": 9, "seed": 3}
    table = in_silico(cells, tiny_model, **options)
    assert (table["cells"] == 9).all()
    of_file = in_silico(tmp_path / "cells.h5ad", tiny_model, devices=["cpu", "cpu"], **options)
    pd.testing.assert_frame_equal(of_file, table)


def test_a_finished_sweep_is_read_and_another_is_refused(
    cells: AnnData, genes: list[str], tiny_model: PretrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = FEW | {"knock_out": genes[:3], "out": tmp_path / "sweep"}
    table = in_silico(cells, tiny_model, **options)
    with pytest.raises(ConfigError, match="another run, with level="):
        in_silico(cells, tiny_model, level="f10", **options)
    with pytest.raises(ConfigError, match="another run, with cells="):
        in_silico(cells[:20].copy(), tiny_model, **options)
    monkeypatch.setattr("xtrimogene.tasks.in_silico.sweep.sum_part", None)
    pd.testing.assert_frame_equal(in_silico(cells, tiny_model, **options), table)


def test_all_genes_that_enough_cells_express(cells: AnnData, tiny_model: PretrainedModel) -> None:
    number = np.asarray((cells.X > 0).sum(axis=0)).ravel()
    table = in_silico(cells, tiny_model, knock_out="all", **FEW | {"min_cells": 9, "num_random": 0})
    assert len(table) == (number >= 9).sum() and (table["changed"] >= 9).all()
    compared = in_silico(cells, tiny_model, knock_out="all", min_cells=7, min_genes=100, progress=False)
    assert len(compared) == (number >= 7).sum() > 20 and compared["shift_p"].between(0, 1).all()


def test_cells_without_counts_are_left_out(cells: AnnData, genes: list[str], tiny_model: PretrainedModel) -> None:
    dense = cells.X.toarray()
    dense[0] = 0
    cells.X = csr_matrix(dense)
    with pytest.warns(UserWarning, match="1 of 24 cells have no counts"):
        table = in_silico(cells, tiny_model, knock_out=genes[:1], **FEW)
    assert table["cells"].tolist() == [23]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "There is nothing to edit"),
        ({"knock_out": ["NOT-A-GENE"]}, GeneMatchError, "The model has no gene 'NOT-A-GENE'"),
        ({"genes": ["NOT-A-GENE"]}, GeneMatchError, "The model has no gene 'NOT-A-GENE'"),
        ({"level": "high"}, ConfigError, "level='high' is not one of"),
        ({"state_key": "state"}, ConfigError, "give both, or neither"),
        ({"toward": "state 1"}, ConfigError, "give both, or neither"),
        (
            {"state_key": "state", "toward": "ill"},
            FieldError,
            "no cell .* has state = 'ill'; there are state 0, state 1",
        ),
        ({"state_key": "state", "toward": "state 1", "start": "state 1"}, ConfigError, "name two states"),
        (
            {"state_key": "state", "toward": "state 1", "group_key": "state"},
            FieldError,
            "'state 0' has no cells of the",
        ),
        ({"group_key": "tissue"}, FieldError, "no obs column 'tissue'"),
        ({"input_kind": "log1p"}, ConfigError, "has no counts to edit"),
        ({"num_random": 5}, ConfigError, "num_random=5 must be 0, or at least 20"),
        ({"min_cells": 0}, ConfigError, "min_cells=0 must be at least 1"),
        ({"cells_per_group": 0}, ConfigError, "cells_per_group=0 must be at least 1"),
        ({"devices": ["tpu"]}, ConfigError, "device='tpu' is not available"),
        ({"min_genes": 500}, GeneMatchError, "at least 500 genes are needed"),
    ],
)
def test_refused(
    cells: AnnData,
    genes: list[str],
    tiny_model: PretrainedModel,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    asked = FEW | ({"knock_out": genes[:1]} if options else {}) | options
    with pytest.raises(error, match=message):
        in_silico(cells, tiny_model, **asked)


def test_a_gene_that_was_not_measured_is_refused(cells: AnnData, genes: list[str], tiny_model: PretrainedModel) -> None:
    with pytest.raises(GeneMatchError, match=f"{genes[0]}: not measured"):
        in_silico(cells[:, genes[1:]].copy(), tiny_model, knock_out=genes[:1], **FEW)


def test_a_gene_without_a_count_is_refused(cells: AnnData, genes: list[str], tiny_model: PretrainedModel) -> None:
    dense = cells.X.toarray()
    dense[:, cells.var_names.get_loc(genes[0])] = 0
    cells.X = csr_matrix(dense)
    with pytest.raises(ConfigError, match=f"{genes[0]}: no cell expresses it"):
        in_silico(cells, tiny_model, knock_out=genes[:1], **FEW)
    table = in_silico(cells, tiny_model, over_express=genes[:1], level="c20", **FEW)
    assert table["changed"].tolist() == [24]


def test_empty_cells_are_refused(cells: AnnData, genes: list[str], tiny_model: PretrainedModel) -> None:
    cells.X = csr_matrix(cells.shape, dtype=np.float32)
    with pytest.raises(CountsError):
        in_silico(cells, tiny_model, knock_out=genes[:1], **FEW)
