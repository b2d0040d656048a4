"""Checkpointing activations: the same gradients from less that is kept for backward."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from xtrimogene.config import (
    ActivationCheckpointing,
    DecoderConfig,
    EncoderConfig,
    MaskingConfig,
    ModelConfig,
    PretrainConfig,
    ReadDepthConfig,
)
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.data.masking import MaskedCells
from xtrimogene.model.checkpointing import set_activation_checkpointing
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.lightning_module import Pretraining
from xtrimogene.training.micro_batch import micro_batch

MODES = get_args(ActivationCheckpointing)
NETWORK = ModelConfig(
    num_genes=50,
    encoder=EncoderConfig(dim=16, num_layers=3, num_heads=2, dropout=0.2),
    decoder=DecoderConfig(dim=8, num_layers=3, num_heads=2, num_features=16),
    num_bins=8,
)
CROSS = replace(NETWORK, decoder=replace(NETWORK.decoder, kind="cross_attention"))
POST_NORM = replace(NETWORK, encoder=replace(NETWORK.encoder, norm_first=False))


@pytest.fixture
def batch(make_counts: Callable) -> MaskedCells:
    counts = make_counts(6, 50, 0.4)
    cells = CellsInMemory(counts, np.ones((1, 50), dtype=bool), np.zeros(6, dtype=np.int64))
    settings = PretrainConfig(files=("a",), output="b", masking=MaskingConfig(), read_depth=ReadDepthConfig())
    return micro_batch(counts, np.arange(6), cells, settings, step=0, lane=0).cells


def step(network: XTrimoGene, batch: MaskedCells) -> tuple[Tensor, dict[str, Tensor], int]:
    """Loss, gradients, and the bytes kept for backward, parameters and buffers left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*network.parameters(), *network.buffers()]}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(3)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = (network(batch) - batch.targets).square().mean()
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    return loss.detach(), gradients, sum(kept.values())


@pytest.mark.parametrize("config", [NETWORK, POST_NORM, CROSS], ids=["pre-norm", "post-norm", "cross"])
def test_gradients_are_the_same_and_less_is_kept(config: ModelConfig, batch: MaskedCells) -> None:
    kept = []
    reference: dict[str, Tensor] = {}
    for mode in MODES:
        network = XTrimoGene(config)
        set_activation_checkpointing(network, mode)
        loss, gradients, num_bytes = step(network, batch)
        kept.append(num_bytes)
        reference = reference or {"loss": loss, **gradients}
        assert reference.keys() == {"loss", *gradients}
        for name, value in {"loss": loss, **gradients}.items():
            assert torch.equal(value, reference[name]), (mode, name)  # dropout too: the random state is restored
    assert kept[1] < 0.75 * kept[0] and kept[2] < 0.5 * kept[1], kept


@pytest.mark.parametrize("mode", MODES)
def test_the_network_is_what_it_was(mode: ActivationCheckpointing, batch: MaskedCells) -> None:
    network, plain = XTrimoGene(NETWORK), XTrimoGene(NETWORK)
    set_activation_checkpointing(network, mode)
    assert list(network.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        assert torch.equal(network.eval()(batch), plain.eval()(batch))
    assert step(network, batch)[2] == step(plain, batch)[2], "in evaluation mode nothing is computed twice"


@pytest.mark.parametrize("mode", MODES)
def test_a_runs_config_chooses(mode: ActivationCheckpointing, batch: MaskedCells) -> None:
    def kept(network: nn.Module, chosen: ActivationCheckpointing) -> int:
        settings = PretrainConfig(files=("a",), output="b", activation_checkpointing=chosen)
        return step(Pretraining(network, settings, batch.raw.measured.numpy()).network, batch)[2]

    network = XTrimoGene(NETWORK)
    set_activation_checkpointing(other := XTrimoGene(NETWORK), mode)
    assert kept(network, mode) == step(other, batch)[2]
    assert kept(network, "none") == step(XTrimoGene(NETWORK), batch)[2], "a network that is trained again"
