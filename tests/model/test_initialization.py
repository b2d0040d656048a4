"""Weights are a function of the seed, and FAVOR+ features are orthogonal."""

import pytest
import torch

from xtrimogene.config import DecoderConfig, EncoderConfig, ModelConfig
from xtrimogene.model.initialization import draw_projection, redraw_projections
from xtrimogene.model.xtrimogene import XTrimoGene

CONFIG = ModelConfig(
    num_genes=20,
    encoder=EncoderConfig(dim=16, num_layers=1, num_heads=2),
    decoder=DecoderConfig(dim=8, num_layers=2, num_heads=2, num_features=6),
    num_bins=4,
)


def test_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = XTrimoGene(CONFIG, seed=3).state_dict()
    torch.manual_seed(2)
    same, other = XTrimoGene(CONFIG, seed=3).state_dict(), XTrimoGene(CONFIG, seed=4).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["gene_embedding.table"], other["gene_embedding.table"])
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_weight_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    # memory from empty() is poisoned, so what nobody draws stays NaN
    def poisoned(*shape: int, **options: object) -> torch.Tensor:
        tensor = empty(*shape, **options)
        return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor

    empty = torch.empty
    monkeypatch.setattr(torch, "empty", poisoned)
    state = XTrimoGene(CONFIG).state_dict()
    assert all(tensor.isfinite().all() for tensor in state.values())


@pytest.mark.parametrize(("num_features", "dim"), [(256, 64), (266, 64), (5, 8), (8, 8)])
def test_features_are_orthogonal_in_blocks(num_features: int, dim: int) -> None:
    projection = draw_projection(num_features, dim, generator=torch.Generator().manual_seed(0))
    assert projection.shape == (num_features, dim)
    for start in range(0, num_features, dim):
        block = torch.nn.functional.normalize(projection[start : start + dim], dim=1)
        assert (block @ block.T - torch.eye(len(block))).abs().max() < 1e-5


def test_features_are_as_long_as_gaussian_vectors() -> None:
    projection = draw_projection(4096, 16, generator=torch.Generator().manual_seed(0))
    squares = projection.square().sum(1)  # chi-square with 16 degrees of freedom
    assert abs(squares.mean() - 16) < 0.5 and abs(squares.var() - 32) < 5
    assert projection.mean(0).abs().max() < 0.1  # no preferred direction


def test_redrawing_changes_the_projections_and_nothing_else() -> None:
    network = XTrimoGene(CONFIG)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    redraw_projections(network, torch.Generator().manual_seed(9))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]) is not name.endswith("projection"), name
    layers = [block.attention.projection for block in network.decoder.blocks]
    assert not torch.equal(*layers)
