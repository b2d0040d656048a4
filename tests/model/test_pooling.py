"""Pooling leaves T and S out where it says so, whatever the lengths of the cells."""

import torch

from xtrimogene.data.packed_cells import PackedCells
from xtrimogene.model.pooling import pool_all, pool_max, pool_mean, pool_weighted
from xtrimogene_kernels.segments import Segments

LENGTHS = (3, 8, 5)  # the shortest cell has one gene, then T and S
SEGMENTS = Segments.from_lengths(LENGTHS)
TOKENS = torch.randn(sum(LENGTHS), 4, generator=torch.Generator().manual_seed(0))
CELLS = torch.split(TOKENS, LENGTHS)


def test_max_is_over_all_tokens() -> None:
    assert torch.equal(pool_max(TOKENS, SEGMENTS), torch.stack([cell.amax(0) for cell in CELLS]))


def test_mean_is_over_genes() -> None:
    torch.testing.assert_close(pool_mean(TOKENS, SEGMENTS), torch.stack([cell[:-2].mean(0) for cell in CELLS]))


def test_all_is_source_target_max_mean() -> None:
    rows = [torch.cat([cell[-1], cell[-2], cell[:-2].amax(0), cell[:-2].mean(0)]) for cell in CELLS]
    torch.testing.assert_close(pool_all(TOKENS, SEGMENTS), torch.stack(rows))


def test_weighted_is_over_genes_by_their_values() -> None:
    values = torch.rand(len(TOKENS), generator=torch.Generator().manual_seed(1)) + 0.1
    packed = PackedCells(
        gene_ids=torch.zeros(len(TOKENS), dtype=torch.int64),
        values=values,
        segments=SEGMENTS,
        totals=torch.ones(3),
        measured=torch.ones(1, 7, dtype=torch.bool),
        panel=torch.zeros(3, dtype=torch.int64),
    )
    weights = [level[:-2] / level[:-2].sum() for level in torch.split(values, LENGTHS)]
    expected = torch.stack([weight @ cell[:-2] for weight, cell in zip(weights, CELLS, strict=True)])
    torch.testing.assert_close(pool_weighted(TOKENS, packed), expected)
