"""A tail is the network's own end, cut off: the same vectors, and weights that fit back in."""

from typing import Any

import pytest
import torch

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import Pool
from xtrimogene.data.packed_cells import PackedCells, pack_cells
from xtrimogene.data.read_depth import ReadDepth
from xtrimogene.errors import ConfigError
from xtrimogene.model.tail import Tail, with_weights


@pytest.fixture
def packed(tiny_model: PretrainedModel, make_counts: Any) -> PackedCells:
    cells = pack_cells(make_counts(6, 400, seed=3))
    return tiny_model.network.append_read_depth(cells, *ReadDepth.parse("f1").tokens(cells.totals))


@pytest.mark.parametrize("pool", ["all", "max", "mean", "latent"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_what_a_tail_makes_of_the_layers_below_is_what_the_network_makes(
    pool: Pool, num_layers: int, tiny_model: PretrainedModel, packed: PackedCells
) -> None:
    network = tiny_model.network
    tail = Tail(network, pool, num_layers=num_layers)
    whole = network.embed_cells(packed, pool)
    torch.testing.assert_close(tail(network.encode_below(packed, num_layers), packed), whole, rtol=0, atol=0)


@pytest.mark.parametrize("pool", ["all", "latent"])
def test_trained_weights_fit_back_into_a_copy_of_the_network(
    pool: Pool, tiny_model: PretrainedModel, packed: PackedCells
) -> None:
    network, before = tiny_model.network, {k: v.clone() for k, v in tiny_model.network.state_dict().items()}
    tail = Tail(network, pool)
    below = network.encode_below(packed, 1)
    tail(below, packed).square().sum().backward()
    trained = {name for name, weight in tail.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert {name.split(".")[0] for name in trained} == {"blocks", "norm"} | ({"latent_head"} & {f"{pool}_head"})
    with torch.no_grad():
        for weight in tail.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    tuned = with_weights(network, tail.weights())
    torch.testing.assert_close(tuned.embed_cells(packed, pool), tail(below, packed), rtol=0, atol=0)
    again = Tail(network, pool).with_weights(tail.weights())
    torch.testing.assert_close(again(below, packed), tail(below, packed), rtol=0, atol=0)
    assert len(tail.weights()) == sum(weight.requires_grad for weight in tail.parameters())
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name])


def test_what_cannot_be_is_refused(tiny_model: PretrainedModel) -> None:
    for number in (0, 3):
        with pytest.raises(ConfigError, match=f"num_layers={number} of an encoder of 2 layers; give 1 to 2"):
            Tail(tiny_model.network, "all", num_layers=number)
    weights = Tail(tiny_model.network, "all").weights()
    for other in ({"encoder.blocks.7.norm": torch.zeros(3)}, {"encoder.norm.weight": torch.zeros(3)}):
        with pytest.raises(ConfigError, match="the network has no weight '.*' of shape \\(3,\\)"):
            with_weights(tiny_model.network, weights | other)
