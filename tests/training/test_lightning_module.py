"""A training step: which losses there are, over which cells, and that they fall."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from scipy import sparse

from xtrimogene.config import DecoderConfig, EncoderConfig, MaskingConfig, ModelConfig, OptimizerConfig, PretrainConfig
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.errors import ConfigError
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.lightning_module import Pretraining
from xtrimogene.training.micro_batch import MicroBatch, micro_batch

NETWORK = ModelConfig(
    num_genes=40,
    encoder=EncoderConfig(dim=16, num_layers=1, num_heads=2),
    decoder=DecoderConfig(dim=16, num_layers=1, num_heads=2, num_features=16),
    num_bins=8,
    latent_dim=8,
)


def make_cells(num_cells: int = 64) -> CellsInMemory:
    """Two kinds of cell with opposite programs: most of a hidden value can be told from the rest."""
    random = np.random.default_rng(0)
    programs = np.stack([np.repeat([9.0, 0.2], 20), np.repeat([0.2, 9.0], 20)])
    counts = random.poisson(programs[random.integers(2, size=num_cells)]).astype(np.float32)
    panel = np.zeros(num_cells, dtype=np.int64)
    return CellsInMemory(sparse.csr_matrix(counts), np.ones((2, 40), dtype=bool), panel, ())


def config(**changes: object) -> PretrainConfig:
    settings = {"files": ("a",), "output": "b", "batch_size": 8, "num_steps": 100, **changes}
    return PretrainConfig(**settings)  # type: ignore[arg-type]


def make_batch(cells: CellsInMemory, config: PretrainConfig, step: int = 0) -> MicroBatch:
    """Eight cells, the same at every step, thinned and masked anew."""
    rows = np.arange(8)
    return micro_batch(cells.counts[rows], rows, cells, config, step=step, lane=0)


def losses_of(one: Pretraining, batch: MicroBatch) -> dict[str, torch.Tensor]:
    totals = one.totals([batch])
    return {name: error / totals[name] for name, error in one.errors(batch).items()}


def module(**changes: object) -> Pretraining:
    return Pretraining(XTrimoGene(NETWORK, seed=0), config(**changes), np.ones((2, 40), dtype=bool))


@torch.no_grad()
def test_losses_are_those_that_weigh() -> None:
    batch = make_batch(make_cells(), config())
    assert set(losses_of(module(), batch)) == {"decoder"}
    assert set(losses_of(module(latent_weight=0.5), batch)) == {"decoder", "latent"}
    assert set(losses_of(module(latent_weight=0.5, decoder_share=0.0), batch)) == {"latent"}


@torch.no_grad()
def test_the_decoder_loss_is_the_models_own_forward() -> None:
    batch = make_batch(make_cells(), config())
    one = module()
    expected = (one.network(batch.cells) - batch.cells.targets).square().mean()
    torch.testing.assert_close(losses_of(one, batch)["decoder"], expected)


@torch.no_grad()
def test_a_share_of_the_cells_passes_the_decoder() -> None:
    one = module(decoder_share=0.3)
    batch = make_batch(make_cells(), one.config)
    num_hidden = sum(batch.cells.hidden.segments.lengths[:3])  # three of eight cells
    expected = (one.network(batch.cells) - batch.cells.targets)[:num_hidden].square().mean()
    torch.testing.assert_close(losses_of(one, batch)["decoder"], expected)


@torch.no_grad()
def test_offsets_of_the_studies_are_added_and_cancel_over_studies() -> None:
    cells = make_cells()
    batch = make_batch(cells, config())
    plain, one = module(latent_weight=1.0), module(latent_weight=1.0)
    one.study_offsets[:] = 1.5  # the same for both studies: nothing that tells them apart
    for name, loss in losses_of(one, batch).items():
        torch.testing.assert_close(loss, losses_of(plain, batch)[name])
    one.study_offsets[0] = 2.5  # half a unit above the mean of the two, and all cells are of this study
    network = one.network
    expected = (network(batch.cells) + 0.5 - batch.cells.targets).square().mean()
    torch.testing.assert_close(losses_of(one, batch)["decoder"], expected)
    other = make_batch(dataclasses.replace(cells, panel=np.ones_like(cells.panel)), config())
    torch.testing.assert_close(
        losses_of(one, other)["decoder"], (network(batch.cells) - 0.5 - batch.cells.targets).square().mean()
    )
    assert losses_of(one, other)["latent"] != losses_of(one, batch)["latent"]


@torch.no_grad()
def test_offsets_hold_nothing_of_the_mean_of_the_studies_that_measured_a_gene() -> None:
    measured = np.array([[True, True, False], [True, False, False], [True, True, False]])
    one = Pretraining(XTrimoGene(ModelConfig(num_genes=3), seed=None), config(), measured)
    one.study_offsets[:] = torch.tensor([[1.0, 5.0, 9.0], [2.0, 7.0, 9.0], [6.0, 1.0, 9.0]])
    expected = torch.tensor([[-2.0, 2.0, 0.0], [-1.0, 0.0, 0.0], [3.0, -2.0, 0.0]])
    torch.testing.assert_close(one.centred_offsets(), expected)


@torch.no_grad()
def test_the_latent_vector_is_read_with_noise_and_pays_for_its_size() -> None:
    batch = make_batch(make_cells(), config())
    quiet, noisy = module(latent_weight=1.0), module(latent_weight=1.0, latent_kl_weight=0.1)
    torch.manual_seed(0)
    first = losses_of(noisy, batch)
    torch.manual_seed(1)
    second = losses_of(noisy, batch)
    assert set(first) == {"decoder", "latent", "latent_kl"}
    assert first["latent"] != second["latent"] != losses_of(quiet, batch)["latent"]
    assert first["latent_kl"] == second["latent_kl"]
    cells = batch.cells
    packed = noisy.network.append_read_depth(cells.visible, cells.raw.totals.log10(), cells.visible.totals.log10())
    latent = noisy.network.latent(noisy.network.encode(packed), packed)
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
        losses = losses_of(one, make_batch(cells, one.config, step))
        history.append([losses["decoder"].item(), losses["latent"].item()])
        optimizer.zero_grad()
        (losses["decoder"] + losses["latent"]).backward()
        optimizer.step()
    start, end = np.mean(history[:3], axis=0), np.mean(history[-10:], axis=0)
    assert (end < [0.3, 0.7] * start).all(), (start, end)


def test_a_step_in_bfloat16_is_close_to_one_in_float32() -> None:
    batch = make_batch(make_cells(), config())

    def step(precision: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        one = module(latent_weight=1.0, latent_kl_weight=1e-3)
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            losses = torch.stack(list(losses_of(one, batch).values()))
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
    batch = make_batch(make_cells(), config())

    def draw() -> torch.Tensor:
        one = module(redraw_every=every)
        one.on_train_batch_start([batch], 0)
        return one.network.decoder.blocks[0].attention.projection

    before = module().network.decoder.blocks[0].attention.projection
    assert torch.equal(draw(), before) is not redrawn
    assert torch.equal(draw(), draw())  # a function of seed and step: a resumed run draws the same


def gradients(one: Pretraining) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in one.named_parameters() if p.grad is not None}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module without a trainer: its backward pass is torch's."""
    monkeypatch.setattr(Pretraining, "manual_backward", lambda self, loss: loss.backward())


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.usefixtures("alone")
def test_a_step_is_the_same_however_it_is_cut(size: int) -> None:
    settings = {"latent_weight": 0.5, "decoder_share": 0.5}
    whole, cut = module(**settings), module(**settings)
    step = [make_batch(make_cells(), whole.config, step) for step in range(2)]
    totals = whole.totals(step)
    losses = whole.backward_step(step, totals)
    pieces = [piece for part in step for piece in part.split(size)]
    assert cut.totals(pieces) == totals
    for name, loss in cut.backward_step(pieces, totals).items():
        torch.testing.assert_close(loss, losses[name])
    for name, gradient in gradients(cut).items():
        torch.testing.assert_close(gradient, gradients(whole)[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: no memory")])
def test_out_of_memory_cuts_the_step_and_goes_on(error: RuntimeError, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, small = module(latent_weight=0.5), module(latent_weight=0.5)
    step = [make_batch(make_cells(), whole.config)]
    whole.backward_step(step, whole.totals(step))
    sizes = []
    compute = Pretraining.errors

    def errors(self: Pretraining, batch: MicroBatch) -> dict[str, torch.Tensor]:
        sizes.append(batch.num_cells)
        if batch.num_cells > 3 or sizes == [8, 4, 2, 2]:  # the last one when a part of the step is done
            raise error
        return compute(self, batch)

    monkeypatch.setattr(Pretraining, "errors", errors)
    with pytest.warns(UserWarning, match="Out of memory with .* set micro_batch_size = "):
        small._backward_in_memory(step, small.totals(step))
    assert sizes == [8, 4, 2, 2, *[1] * 8] and small.micro_batch_size == 1
    for name, gradient in gradients(small).items():
        torch.testing.assert_close(gradient, gradients(whole)[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.usefixtures("alone")
def test_a_cell_that_does_not_fit_alone_and_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    one = module()
    step = [make_batch(make_cells(), one.config)]
    for error in (torch.OutOfMemoryError("CUDA"), RuntimeError("shapes do not fit")):

        def fail(self: Pretraining, batch: MicroBatch, error: RuntimeError = error) -> dict[str, torch.Tensor]:
            raise error

        monkeypatch.setattr(Pretraining, "errors", fail)
        with pytest.raises(RuntimeError, match=str(error)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one._backward_in_memory(step, one.totals(step))
    assert one.micro_batch_size == 1


def test_what_is_not_trained_needs_no_gradient() -> None:
    one = module(latent_weight=1.0, decoder_share=0.0)
    trained = {name for name, parameter in one.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith(("network.decoder", "network.head.")) for name in trained)
    assert "network.latent_head.gene_bias" in trained
    trained = {name for name, parameter in module().named_parameters() if parameter.requires_grad}
    assert "network.head.weight" in trained and not any("latent_head" in name for name in trained)
    optimizer = one.configure_optimizers()["optimizer"]
    assert all(parameter.requires_grad for group in optimizer.param_groups for parameter in group["params"])
