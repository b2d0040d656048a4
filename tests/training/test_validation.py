"""Validation: the same hidden genes for every run, errors as written out, nothing changed by looking."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from xtrimogene.config import DecoderConfig, EncoderConfig, ModelConfig, PretrainConfig
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.validation import validation_batches, validation_losses

CONFIG = PretrainConfig(files=("a",), output="b", validation_files=("c",), validation_cells=20)
NETWORK = ModelConfig(
    num_genes=40,
    encoder=EncoderConfig(dim=16, num_layers=1, num_heads=2, dropout=0.2),
    decoder=DecoderConfig(dim=16, num_layers=1, num_heads=2, num_features=16),
    num_bins=8,
    latent_dim=8,
)


@pytest.fixture
def store() -> CellsInMemory:
    counts = np.random.default_rng(0).poisson(1.0, (33, 40)).astype(np.float32)
    return CellsInMemory(sparse.csr_matrix(counts), np.ones((1, 40), dtype=bool), np.zeros(33, dtype=np.int64))


def test_cells_and_masks_are_the_same_for_every_seed(store: CellsInMemory) -> None:
    ours, others = validation_batches(store, CONFIG), validation_batches(store, replace(CONFIG, seed=5))
    assert sum(batch.num_cells for batch in ours) == 20
    for one, other in zip(ours, others, strict=True):
        assert torch.equal(one.cells.targets, other.cells.targets)
        assert torch.equal(one.cells.hidden.gene_ids, other.cells.hidden.gene_ids)
    assert len(validation_batches(store, replace(CONFIG, validation_cells=1000))) == 5  # all 33 cells


def test_losses_are_means_over_all_hidden_genes(store: CellsInMemory) -> None:
    network, batches = XTrimoGene(NETWORK), validation_batches(store, CONFIG)
    network.train()
    random = torch.get_rng_state()
    losses = validation_losses(network, batches)
    assert torch.equal(torch.get_rng_state(), random) and network.training
    network.eval()
    predicted = torch.cat([network(batch.cells) for batch in batches])
    targets = torch.cat([batch.cells.targets for batch in batches])
    squares = (predicted - targets).square()
    assert losses["decoder"] == pytest.approx(squares.mean().item(), rel=1e-5)
    assert losses["decoder_nonzero"] == pytest.approx(squares[targets > 0].mean().item(), rel=1e-5)
    assert losses["decoder_zero"] == pytest.approx(squares[targets == 0].mean().item(), rel=1e-5)
    assert 0 < losses["latent"] < 100
    without = validation_losses(XTrimoGene(replace(NETWORK, latent_dim=None)), batches)
    assert set(without) == {"decoder", "decoder_nonzero", "decoder_zero"}
