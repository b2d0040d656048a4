"""The fitted head: ridge regression of hidden values on the decoder's output."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.test_spectral import MASKING, begun, make_cells
from xtrimogene.config import EncoderConfig
from xtrimogene.data.masking import mask_cells
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.least_squares import NUM_CELLS, decode_some_cells, fit_linear


def test_a_linear_layer_is_fitted_as_numpy_fits_it() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 3)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5] + 3 + 0.1 * random.normal(size=200)).astype(np.float32)
    linear = nn.Linear(3, 1)
    fit_linear(linear, torch.from_numpy(x), torch.from_numpy(y))
    expected = np.linalg.lstsq(np.column_stack([x, np.ones(200)]), y, rcond=None)[0]
    np.testing.assert_allclose([*linear.weight[0].tolist(), linear.bias.item()], expected, rtol=5e-3)


def test_columns_that_say_nothing_give_the_mean() -> None:
    linear = nn.Linear(2, 1)
    fit_linear(linear, torch.ones(5, 2), torch.arange(5.0))
    assert linear(torch.ones(1, 2)).item() == pytest.approx(2.0)


def test_no_hidden_genes_leave_the_layer_as_it_is() -> None:
    linear = nn.Linear(2, 1)
    before = linear.weight.clone()
    fit_linear(linear, torch.empty(0, 2), torch.empty(0))
    assert torch.equal(linear.weight, before)


@torch.no_grad()
def test_the_fitted_head_predicts_hidden_values_of_other_masks() -> None:
    fresh, network = begun()
    cells = make_cells()
    genes, targets = decode_some_cells(network, cells, MASKING, seed=0)
    assert NUM_CELLS * 5 < len(genes) == len(targets) < NUM_CELLS * 15
    fit_linear(network.head, genes, targets)
    batch = mask_cells(
        cells.counts, cells.counts, MASKING, np.random.default_rng(5), measured=cells.measured, panel=cells.panel
    )
    spread = (batch.targets - batch.targets.mean()).square().mean()
    assert (network(batch) - batch.targets).square().mean() < 0.95 * spread  # eight dimensions tell little
    assert (fresh(batch) - batch.targets).square().mean() > spread


def test_dropout_is_off_while_the_head_is_fitted_and_on_again_after() -> None:
    network = XTrimoGene(
        replace(begun()[0].config, encoder=EncoderConfig(dim=8, num_layers=2, num_heads=2, dropout=0.5))
    )
    network.train()
    genes, again = (decode_some_cells(network, make_cells(), MASKING, seed=0)[0] for _ in range(2))
    assert torch.equal(genes, again) and network.training
