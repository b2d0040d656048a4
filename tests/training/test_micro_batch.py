"""What a step reads: a function of the seed, the step and the lane; cut anywhere, it is the same cells."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from xtrimogene.config import MaskingConfig, PretrainConfig
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.training.micro_batch import MicroBatch, micro_batch

ROWS = np.array([7, 2, 0, 5])


@pytest.fixture
def cells() -> CellsInMemory:
    counts = np.random.default_rng(0).poisson(1.0, (9, 40)).astype(np.float32)
    measured = np.stack([np.ones(40, dtype=bool), np.ones(40, dtype=bool), np.arange(40) < 30])
    panel = np.array([0] * 5 + [2] * 4)
    counts *= measured[panel]
    return CellsInMemory(sparse.csr_matrix(counts), measured, panel)


def make(cells: CellsInMemory, *, step: int = 0, lane: int = 0, **changes: object) -> MicroBatch:
    config = PretrainConfig(files=("a",), output="b", **changes)  # type: ignore[arg-type]
    return micro_batch(cells.counts[ROWS], ROWS, cells, config, step=step, lane=lane)


def test_a_batch_is_a_function_of_seed_step_and_lane(cells: CellsInMemory) -> None:
    one, same = make(cells, step=5, lane=3, seed=2), make(cells, step=5, lane=3, seed=2)
    assert torch.equal(one.cells.visible.gene_ids, same.cells.visible.gene_ids) and one.seed == same.seed
    assert torch.equal(one.cells.hidden.gene_ids, same.cells.hidden.gene_ids)
    assert torch.equal(one.cells.targets, same.cells.targets)
    for changed in ({"seed": 3}, {"step": 4}, {"lane": 2}):
        other = make(cells, **{"step": 5, "lane": 3, "seed": 2, **changed})
        assert not torch.equal(one.cells.visible.values, other.cells.visible.values) and one.seed != other.seed


def test_targets_come_from_the_raw_cells_and_never_from_unmeasured_genes(cells: CellsInMemory) -> None:
    batch = make(cells, masking=MaskingConfig(zero_fraction=1.0)).cells
    np.testing.assert_array_equal(batch.raw.totals, cells.counts[ROWS].sum(axis=1).A1)
    assert (batch.visible.totals <= batch.raw.totals).all()
    hidden = torch.split(batch.hidden.gene_ids, list(batch.hidden.segments.lengths))
    for row, genes in zip(ROWS, hidden, strict=True):
        assert cells.measured[cells.panel[row]][genes].all()


def test_only_the_panels_of_its_cells_travel_with_a_batch(cells: CellsInMemory) -> None:
    batch = make(cells)
    assert batch.study.tolist() == [2, 0, 0, 2]
    assert batch.cells.raw.measured.shape == (2, 40) and batch.cells.raw.panel.tolist() == [1, 0, 0, 1]
    np.testing.assert_array_equal(batch.cells.raw.measured[batch.cells.raw.panel], cells.measured[batch.study])


@pytest.mark.parametrize(("share", "num_decoded"), [(0.0, 0), (0.01, 1), (0.5, 2), (0.6, 3), (1.0, 4)])
@pytest.mark.parametrize(("size", "tokens"), [(1, None), (3, None), (4, None), (4, 35), (3, 1), (4, 1000)])
def test_parts_have_the_cells_and_targets_of_the_whole(
    cells: CellsInMemory, share: float, num_decoded: int, size: int, tokens: int | None
) -> None:
    whole = make(cells, decoder_share=share, latent_weight=1.0)
    parts = whole.split(size, tokens)
    for part in parts:
        assert part.num_cells == 1 or sum(part.cells.visible.segments.lengths) <= (tokens or np.inf)
    assert whole.num_decoded == num_decoded == sum(part.num_decoded for part in parts)
    assert whole.num_cells == 4 == sum(part.num_cells for part in parts)
    assert max(part.num_cells for part in parts) <= size
    assert whole.num_targets == sum(part.num_targets for part in parts)
    assert len({part.seed for part in parts}) == len(parts)
    for read in (
        lambda part: part.cells.targets,
        lambda part: part.cells.hidden.gene_ids,
        lambda part: part.cells.hidden.shown,
        lambda part: part.cells.visible.values,
        lambda part: part.cells.raw.gene_ids,
        lambda part: part.study,
    ):
        torch.testing.assert_close(
            torch.cat([read(part) for part in parts]), read(whole), equal_nan=True, rtol=0, atol=0
        )
    for part in parts:
        for packed in (part.cells.visible, part.cells.raw):
            assert packed.segments.cu_seqlens.tolist() == np.cumsum([0, *packed.segments.lengths]).tolist()


def tensors_of(part: Any) -> Iterator[torch.Tensor]:
    for value in (getattr(part, entry.name) for entry in fields(part)):
        if isinstance(value, torch.Tensor):
            yield value
        elif is_dataclass(value):
            yield from tensors_of(value)


def test_pinning_takes_every_tensor_and_nothing_else(cells: CellsInMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, taken = make(cells, decoder_share=0.5), []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: (taken.append(tensor), tensor.clone())[1])
    pinned = batch.pin_memory()
    held, copies = list(tensors_of(batch)), list(tensors_of(pinned))
    assert len(held) == 17 and {id(tensor) for tensor in held} == {id(tensor) for tensor in taken}
    for tensor, copy in zip(held, copies, strict=True):
        assert tensor is not copy
        torch.testing.assert_close(copy, tensor, equal_nan=True, rtol=0, atol=0)
    assert (pinned.num_decoded, pinned.seed) == (batch.num_decoded, batch.seed)
    assert pinned.cells.visible.segments.lengths == batch.cells.visible.segments.lengths


def test_a_part_is_as_large_as_it_may_be(cells: CellsInMemory) -> None:
    whole = make(cells)
    lengths = whole.cells.visible.segments.lengths
    assert [part.num_cells for part in whole.split(3)] == [3, 1]
    assert whole.split(4, sum(lengths[:2]))[0].num_cells == 2
    assert whole.split(4, sum(lengths[:2]) - 1)[0].num_cells == 1
    assert whole.split(4)[0] is whole
