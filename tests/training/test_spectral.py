"""The spectral start: what training cells vary in within studies, and nothing that sets studies apart."""

import numpy as np
import pytest
import torch
from scipy import sparse

from xtrimogene.config import DecoderConfig, EncoderConfig, MaskingConfig, ModelConfig
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.data.packed_cells import COUNTS_PER_CELL, pack_cells
from xtrimogene.errors import ConfigError
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.spectral import MEAN_LENGTH, begin_with_components, gene_loadings, gene_means

NUM_GENES = 30
MASKING = MaskingConfig(zero_fraction=0.3)


def make_cells() -> CellsInMemory:
    """Two studies, two kinds of cell in both; gene 29 is expressed in the second study alone, 28 in no cell."""
    random = np.random.default_rng(0)
    kind, panel = random.integers(2, size=80), np.repeat([0, 1], 40)
    rates = np.full((80, NUM_GENES), 2.0)
    rates[:, :6] = np.where(kind[:, None] == 0, 9.0, 0.3)
    rates[:, 28] = 0.0
    rates[:, 29] = np.where(panel == 0, 0.0, 25.0)
    counts = sparse.csr_matrix(random.poisson(rates).astype(np.float32))
    measured = np.ones((2, NUM_GENES), dtype=bool)
    measured[0, 29] = False
    return CellsInMemory(counts, measured, panel, ())


def dense_loadings(cells: CellsInMemory, num_components: int) -> np.ndarray:
    counts = cells.counts.toarray().astype(np.float64)
    values = np.log1p(counts / counts.sum(1, keepdims=True) * COUNTS_PER_CELL)
    for study in (0, 1):
        values[cells.panel == study] -= values[cells.panel == study].mean(0)
    cells_measured = cells.measured[cells.panel]
    deviations = np.sqrt((values**2).sum(0) / np.maximum(cells_measured.sum(0), 1))
    scales = 1 / (deviations + 0.5 * np.median(deviations[deviations > 0]))
    return (np.linalg.svd(values * scales)[2][:num_components] * scales).T


def test_loadings_are_those_of_a_dense_decomposition() -> None:
    cells = make_cells()
    ours, expected = gene_loadings(cells, 3, seed=0), dense_loadings(cells, 3)
    assert ours.shape == (NUM_GENES, 3) and ours.dtype == np.float32
    np.testing.assert_allclose(np.abs(ours), np.abs(expected), atol=2e-3)
    assert np.array_equal(ours, gene_loadings(cells, 3, seed=0))


def test_the_first_axis_is_the_kind_of_cell_and_not_the_study() -> None:
    first = np.abs(gene_loadings(make_cells(), 3, seed=0)[:, 0])
    assert first[:6].min() > 2 * first[6:].max()


@pytest.mark.parametrize(
    ("rows", "message"), [([0], "needs 3 cells at least, got 1"), ([0, 0, 0, 0], "needs cells that differ")]
)
def test_cells_that_do_not_vary_are_refused(rows: list[int], message: str) -> None:
    cells = make_cells()
    few = CellsInMemory(cells.counts[rows], cells.measured, cells.panel[rows], ())
    with pytest.raises(ConfigError, match=f"start = 'spectral' {message}.*set start = 'random'"):
        begin_with_components(begun()[0], few, MASKING, seed=0)


def begun(latent_dim: int | None = 8, dim: int = 8) -> tuple[XTrimoGene, XTrimoGene]:
    config = ModelConfig(
        num_genes=NUM_GENES,
        encoder=EncoderConfig(dim=dim, num_layers=2, num_heads=2),
        decoder=DecoderConfig(dim=8, num_layers=1, num_heads=2, num_features=8),
        num_bins=6,
        latent_dim=latent_dim,
    )
    fresh, network = XTrimoGene(config, seed=0), XTrimoGene(config, seed=0)
    begin_with_components(network, make_cells(), MASKING, seed=0)
    return fresh, network


def test_rows_of_genes_hold_loadings_and_means_and_others_stay() -> None:
    fresh, network = begun()
    rows = network.gene_embedding.table.detach()
    loadings = torch.from_numpy(gene_loadings(make_cells(), 7, seed=0))
    ratio = rows[0, 0] / loadings[0, 0]
    torch.testing.assert_close(rows[:NUM_GENES, :-1], ratio * loadings)
    means = rows[:NUM_GENES, -1]
    assert means.std() == pytest.approx(MEAN_LENGTH * 8**0.5)
    assert means.argmin() == 28 and means.argmax() == 29
    assert torch.equal(rows[NUM_GENES:], fresh.gene_embedding.table[NUM_GENES:])


def test_means_are_over_the_cells_that_measured_a_gene() -> None:
    cells = make_cells()
    counts = cells.counts.toarray()
    values = np.log1p(counts / counts.sum(1, keepdims=True) * COUNTS_PER_CELL)
    weights = np.where(counts > 0, 0.3, 0.1) * cells.measured[cells.panel]
    expected = (weights * values).sum(0) / weights.sum(0)
    ours = gene_means(cells, np.full(80, 0.3), np.full(80, 0.1))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-5)


@torch.no_grad()
def test_a_value_through_the_latent_vector_begins_as_the_mean_that_the_loss_asks_for() -> None:
    _, network = begun()
    assert network.latent_head is not None
    values = network.predict_from_latent(torch.randn(2, 8), torch.tensor([3.0, 4.0]))
    assert torch.equal(values, network.latent_head.gene_bias.expand(2, -1)) and values[0, 28] == 0
    assert values[0, 29] > values[0, :28].max()


@torch.no_grad()
def test_queries_of_genes_begin_no_longer_than_one_whatever_the_width() -> None:
    for latent_dim in (8, 128):
        _, network = begun(latent_dim=latent_dim)
        assert network.latent_head is not None
        queries = network.latent_head.gene_query(network.gene_embedding.table[:NUM_GENES])
        assert 0.3 < queries.square().sum(1).mean() < 1.5


def test_fewer_cells_than_dimensions_leave_the_rest_of_the_row_as_drawn() -> None:
    fresh, network = begun(dim=64)
    rest = slice(NUM_GENES, -1)
    assert torch.equal(network.gene_embedding.table[:, rest], fresh.gene_embedding.table[:, rest])
    assert not torch.equal(network.gene_embedding.table[:, :8], fresh.gene_embedding.table[:, :8])


@torch.no_grad()
def test_the_encoder_begins_as_the_sum_of_gene_and_value() -> None:
    _, network = begun()
    counts = make_cells().counts[:3]
    packed = pack_cells(counts)
    packed = network.append_read_depth(packed, packed.totals.log10(), packed.totals.log10())
    tokens = network.value_embedding(packed.values) + network.gene_embedding(packed.gene_ids)
    torch.testing.assert_close(network.encode(packed), network.encoder.norm(tokens))


@torch.no_grad()
def test_the_latent_vector_begins_centred_three_deviations_wide_and_tells_kinds_apart() -> None:
    _, network = begun()
    cells = make_cells()
    packed = pack_cells(cells.counts)
    packed = network.append_read_depth(packed, packed.totals.log10(), packed.totals.log10())
    latent = network.latent(network.encode(packed), packed)
    torch.testing.assert_close(latent.std(0), torch.full((8,), 3.0))
    assert latent.mean(0).abs().max() < 1e-3
    first = torch.linalg.svd(latent)[0][:, 0].numpy()
    kind = cells.counts[:, :6].toarray().sum(1) > 25
    assert abs(((first > 0) == kind).mean() - 0.5) > 0.35  # the sign of an axis is arbitrary


def test_a_network_without_a_latent_head_begins_too() -> None:
    fresh, network = begun(latent_dim=None)
    assert not torch.equal(network.gene_embedding.table, fresh.gene_embedding.table)
