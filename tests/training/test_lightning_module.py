"""A training step: which losses there are, over which cells, and that they fall."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import sparse

from xtrimogene.config import DecoderConfig, EncoderConfig, MaskingConfig, ModelConfig, OptimizerConfig, PretrainConfig
from xtrimogene.errors import ConfigError
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.data_module import TrainingCells, training_batch
from xtrimogene.training.lightning_module import Pretraining

NETWORK = ModelConfig(
    num_genes=40,
    encoder=EncoderConfig(dim=16, num_layers=1, num_heads=2),
    decoder=DecoderConfig(dim=16, num_layers=1, num_heads=2, num_features=16),
    num_bins=8,
    latent_dim=8,
)


def make_cells(num_cells: int = 64) -> TrainingCells:
    """Two kinds of cell with opposite programs: most of a hidden value can be told from the rest."""
    random = np.random.default_rng(0)
    programs = np.stack([np.repeat([9.0, 0.2], 20), np.repeat([0.2, 9.0], 20)])
    counts = random.poisson(programs[random.integers(2, size=num_cells)]).astype(np.float32)
    panel = np.zeros(num_cells, dtype=np.int64)
    return TrainingCells(sparse.csr_matrix(counts), np.ones((2, 40), dtype=bool), panel, ())


def config(**changes: object) -> PretrainConfig:
    settings = {"files": ("a",), "output": "b", "batch_size": 8, "num_steps": 100, **changes}
    return PretrainConfig(**settings)  # type: ignore[arg-type]


def module(**changes: object) -> Pretraining:
    return Pretraining(XTrimoGene(NETWORK, seed=0), config(**changes), np.ones((2, 40), dtype=bool))


@torch.no_grad()
def test_losses_are_those_that_weigh() -> None:
    batch = training_batch(make_cells(), config(), 0)
    assert set(module().losses(batch)) == {"decoder"}
    assert set(module(latent_weight=0.5).losses(batch)) == {"decoder", "latent"}
    assert set(module(latent_weight=0.5, decoder_share=0.0).losses(batch)) == {"latent"}


@torch.no_grad()
def test_the_decoder_loss_is_the_models_own_forward() -> None:
    batch = training_batch(make_cells(), config(), 0)
    one = module()
    expected = (one.network(batch) - batch.targets).square().mean()
    torch.testing.assert_close(one.losses(batch)["decoder"], expected)


@torch.no_grad()
def test_a_share_of_the_cells_passes_the_decoder() -> None:
    batch = training_batch(make_cells(), config(), 0)
    one = module(decoder_share=0.3)
    num_hidden = sum(batch.hidden.segments.lengths[:3])  # three of eight cells
    expected = (one.network(batch) - batch.targets)[:num_hidden].square().mean()
    torch.testing.assert_close(one.losses(batch)["decoder"], expected)


@torch.no_grad()
def test_offsets_of_the_studies_are_added_and_cancel_over_studies() -> None:
    cells = make_cells()
    batch = training_batch(cells, config(), 0)
    plain, one = module(latent_weight=1.0), module(latent_weight=1.0)
    one.study_offsets[:] = 1.5  # the same for both studies: nothing that tells them apart
    for name, loss in one.losses(batch).items():
        torch.testing.assert_close(loss, plain.losses(batch)[name])
    one.study_offsets[0] = 2.5  # half a unit above the mean of the two, and all cells are of this study
    network = one.network
    expected = (network(batch) + 0.5 - batch.targets).square().mean()
    torch.testing.assert_close(one.losses(batch)["decoder"], expected)
    other = training_batch(dataclasses.replace(cells, panel=np.ones_like(cells.panel)), config(), 0)
    torch.testing.assert_close(one.losses(other)["decoder"], (network(batch) - 0.5 - batch.targets).square().mean())
    assert one.losses(other)["latent"] != one.losses(batch)["latent"]


@torch.no_grad()
def test_offsets_hold_nothing_of_the_mean_of_the_studies_that_measured_a_gene() -> None:
    measured = np.array([[True, True, False], [True, False, False], [True, True, False]])
    one = Pretraining(XTrimoGene(ModelConfig(num_genes=3), seed=None), config(), measured)
    one.study_offsets[:] = torch.tensor([[1.0, 5.0, 9.0], [2.0, 7.0, 9.0], [6.0, 1.0, 9.0]])
    expected = torch.tensor([[-2.0, 2.0, 0.0], [-1.0, 0.0, 0.0], [3.0, -2.0, 0.0]])
    torch.testing.assert_close(one.centred_offsets(), expected)


@torch.no_grad()
def test_the_latent_vector_is_read_with_noise_and_pays_for_its_size() -> None:
    batch = training_batch(make_cells(), config(), 0)
    quiet, noisy = module(latent_weight=1.0), module(latent_weight=1.0, latent_kl_weight=0.1)
    torch.manual_seed(0)
    first = noisy.losses(batch)
    torch.manual_seed(1)
    second = noisy.losses(batch)
    assert set(first) == {"decoder", "latent", "latent_kl"}
    assert first["latent"] != second["latent"] != quiet.losses(batch)["latent"]
    assert first["latent_kl"] == second["latent_kl"]
    packed = noisy.network.append_read_depth(batch.visible, batch.raw.totals.log10(), batch.visible.totals.log10())
    latent = noisy.network.embed_cells(packed, "latent")
    noise = torch.distributions.Normal(0.0, 1.0)
    divergence = torch.distributions.kl_divergence(torch.distributions.Normal(latent, 1.0), noise).sum(1).mean()
    torch.testing.assert_close(first["latent_kl"], divergence)


def test_a_latent_loss_needs_a_latent_head() -> None:
    network = XTrimoGene(ModelConfig(num_genes=5), seed=None)
    with pytest.raises(ConfigError, match="needs a preset with latent_dim"):
        Pretraining(network, config(latent_weight=1.0), np.ones((1, 5), dtype=bool))


def test_both_losses_fall() -> None:
    cells = make_cells()
    optimizer_config = OptimizerConfig(peak_lr=1e-2, warmup_steps=5)
    settings = {"latent_weight": 1.0, "optimizer": optimizer_config, "masking": MaskingConfig(zero_fraction=0.1)}
    one = module(**settings)
    optimizer = one.configure_optimizers()["optimizer"]
    history = []
    for step in range(60):
        losses = one.losses(training_batch(cells, one.config, step))
        history.append([losses["decoder"].item(), losses["latent"].item()])
        optimizer.zero_grad()
        (losses["decoder"] + losses["latent"]).backward()
        optimizer.step()
    start, end = np.mean(history[:3], axis=0), np.mean(history[-10:], axis=0)
    assert (end < [0.3, 0.7] * start).all(), (start, end)


def test_a_step_in_bfloat16_is_close_to_one_in_float32() -> None:
    batch = training_batch(make_cells(), config(), 0)

    def step(precision: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        one = module(latent_weight=1.0, latent_kl_weight=1e-3)
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            losses = torch.stack(list(one.losses(batch).values()))
        losses.sum().backward()
        gradients = [parameter.grad for parameter in one.parameters() if parameter.grad is not None]
        assert losses.dtype == torch.float32 and all(gradient.dtype == torch.float32 for gradient in gradients)
        return losses.detach(), torch.cat([gradient.flatten() for gradient in gradients])

    (losses, gradient), (coarse_losses, coarse_gradient) = step(torch.float32), step(torch.bfloat16)
    torch.testing.assert_close(coarse_losses, losses, rtol=0.02, atol=0)
    assert (coarse_gradient - gradient).norm() < 0.05 * gradient.norm()
    assert not torch.equal(coarse_losses, losses)


@torch.no_grad()
@pytest.mark.parametrize(
    ("step", "every", "redrawn"), [(0, 10, False), (10, 10, True), (15, 10, False), (20, 10, True), (10, 0, False)]
)
def test_projections_are_redrawn_now_and_then(
    step: int, every: int, redrawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pretraining, "global_step", step)
    batch = training_batch(make_cells(), config(), 0)

    def draw() -> torch.Tensor:
        one = module(redraw_every=every)
        one.on_train_batch_start(batch, 0)
        return one.network.decoder.blocks[0].attention.projection

    before = module().network.decoder.blocks[0].attention.projection
    assert torch.equal(draw(), before) is not redrawn
    assert torch.equal(draw(), draw())  # a function of seed and step: a resumed run draws the same
