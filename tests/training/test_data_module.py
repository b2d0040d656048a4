"""What a training step sees is a function of the seed and the step."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from xtrimogene.config import MaskingConfig, PretrainConfig
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import CountsError, FieldError, GeneMatchError
from xtrimogene.training.data_module import (
    TrainingBatches,
    TrainingCells,
    batch_rows,
    read_training_cells,
    training_batch,
)

GENES = GeneVocabulary(tuple(f"GENE{i}" for i in range(300)), ("",) * 300)


def write(path: Path, names: list[str], *, num_cells: int = 6, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    counts = random.poisson(1.5, (num_cells, len(names))).astype(np.float32)
    counts[0] = 0
    counts[0, :3] = 1  # a cell of three genes
    anndata.AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=names)).write_h5ad(path)
    return counts


@pytest.mark.parametrize(("num_cells", "batch_size"), [(10, 5), (10, 3), (10, 10), (10, 25), (1, 4), (7, 1)])
def test_each_epoch_holds_each_cell_once(num_cells: int, batch_size: int) -> None:
    num_steps = 4 * num_cells
    rows = np.concatenate([batch_rows(num_cells, batch_size, step, seed=3) for step in range(num_steps)])
    epochs = rows[: len(rows) // num_cells * num_cells].reshape(-1, num_cells)
    assert (np.sort(epochs, axis=1) == np.arange(num_cells)).all()
    if num_cells == 10:
        assert len({tuple(epoch) for epoch in epochs}) > len(epochs) / 2, "each epoch in an order of its own"


def test_order_is_a_function_of_seed_and_step() -> None:
    np.testing.assert_array_equal(batch_rows(100, 10, 17, seed=1), batch_rows(100, 10, 17, seed=1))
    assert (batch_rows(100, 10, 17, seed=1) != batch_rows(100, 10, 17, seed=2)).any()


def test_cells_of_several_files_keep_what_each_measured(tmp_path: Path) -> None:
    half = [f"GENE{i}" for i in range(299, 49, -1)]  # another order, without the first fifty
    write(tmp_path / "a.h5ad", list(GENES.symbols), num_cells=5)
    other = write(tmp_path / "b.h5ad", half, num_cells=4, seed=1)
    cells = read_training_cells([tmp_path / "a.h5ad", tmp_path / "b.h5ad"], GENES, min_genes=10)
    assert cells.counts.shape == (7, 300)  # each file's first cell has three genes
    assert cells.panel.tolist() == [0] * 4 + [1] * 3
    assert cells.measured[0].all() and cells.measured[1].tolist() == [i >= 50 for i in range(300)]
    np.testing.assert_array_equal(cells.counts[4:, 50:].toarray(), other[1:, ::-1])
    assert cells.sources == (
        {"file": "a.h5ad", "cells": 4, "cells_left_out": 1},
        {"file": "b.h5ad", "cells": 3, "cells_left_out": 1},
    )


def test_each_batch_of_a_joined_file_is_a_study(tmp_path: Path) -> None:
    write(tmp_path / "a.h5ad", list(GENES.symbols), num_cells=4)
    joined = anndata.read_h5ad(tmp_path / "a.h5ad")
    counts = joined.X.toarray()
    counts[1, 200:] = counts[2, 200:] = 0
    joined.X = sparse.csr_matrix(counts)
    joined.obs["chemistry"] = ["v3", "v2", "v2", "v3"]
    joined.write_h5ad(tmp_path / "b.h5ad")
    files = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    cells = read_training_cells(files, GENES, min_genes=10, joined_by={str(files[1]): "chemistry"})
    assert cells.panel.tolist() == [0, 0, 0, 1, 1, 2] and cells.measured.shape == (3, 300)
    assert cells.measured[0].all()  # of the file without batches
    np.testing.assert_array_equal(cells.measured[1], (counts[1:3] > 0).any(axis=0))
    np.testing.assert_array_equal(cells.measured[2], counts[3] > 0)  # a cell left out says nothing
    assert cells.sources[1] == {
        "file": "b.h5ad",
        "cells": 3,
        "cells_left_out": 1,
        "joined_by": "chemistry",
        "batches": 2,
    }
    with pytest.raises(FieldError, match="no obs column 'lane'"):
        read_training_cells(files, GENES, min_genes=10, joined_by={str(files[0]): "lane"})


def test_no_cell_with_enough_genes_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.h5ad", list(GENES.symbols))
    with pytest.raises(CountsError, match="No cell has 301 expressed genes"):
        read_training_cells([tmp_path / "a.h5ad"], GENES, min_genes=301)


def test_a_file_of_other_genes_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.h5ad", [f"OTHER{i}" for i in range(300)])
    with pytest.raises(GeneMatchError):
        read_training_cells([tmp_path / "a.h5ad"], GENES, min_genes=10)


@pytest.fixture
def cells() -> TrainingCells:
    counts = np.random.default_rng(0).poisson(1.0, (9, 40)).astype(np.float32)
    measured = np.stack([np.ones(40, dtype=bool), np.arange(40) < 30])
    panel = np.array([0] * 5 + [1] * 4)
    counts *= measured[panel]
    return TrainingCells(sparse.csr_matrix(counts), measured, panel, ())


def config(**changes: object) -> PretrainConfig:
    return PretrainConfig(files=("a",), output="b", batch_size=4, num_steps=7, **changes)  # type: ignore[arg-type]


def test_a_batch_is_a_function_of_seed_and_step(cells: TrainingCells) -> None:
    one, same = (training_batch(cells, config(seed=2), 5) for _ in range(2))
    assert torch.equal(one.visible.gene_ids, same.visible.gene_ids)
    assert torch.equal(one.hidden.gene_ids, same.hidden.gene_ids) and torch.equal(one.targets, same.targets)
    other = training_batch(cells, config(seed=3), 5)
    assert not torch.equal(one.visible.values, other.visible.values)


def test_batches_begin_where_they_are_told(cells: TrainingCells) -> None:
    everything = list(TrainingBatches(cells, config(), 0))
    rest = list(TrainingBatches(cells, config(), 4))
    assert len(everything) == 7 and len(rest) == 3
    for one, same in zip(everything[4:], rest, strict=True):
        assert torch.equal(one.visible.values, same.visible.values) and torch.equal(one.targets, same.targets)


def test_targets_come_from_the_raw_cells_and_never_from_unmeasured_genes(cells: TrainingCells) -> None:
    batch = training_batch(cells, config(masking=MaskingConfig(zero_fraction=1.0)), 0)
    rows = batch_rows(9, 4, 0, seed=0)
    np.testing.assert_array_equal(batch.raw.totals, cells.counts[rows].sum(axis=1).A1)
    assert (batch.visible.totals <= batch.raw.totals).all()
    hidden = torch.split(batch.hidden.gene_ids, list(batch.hidden.segments.lengths))
    for row, genes in zip(rows, hidden, strict=True):
        assert cells.measured[cells.panel[row]][genes].all()
