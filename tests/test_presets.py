"""Presets have the sizes that were published."""

from dataclasses import replace

import pytest
import torch

from xtrimogene.config import ModelConfig
from xtrimogene.errors import ConfigError
from xtrimogene.model import xtrimogene
from xtrimogene.presets import PRESETS, model_config


def num_parameters(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(xtrimogene, "initialize", lambda network, seed: None)
    with torch.device("meta"):  # shapes only
        network = xtrimogene.XTrimoGene(config)
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("preset", "published"),
    [("3M", 3_696_573), ("10M", 9_774_909), ("100M", 119_252_285), ("scfoundation", 119_252_285)],
)
def test_parameters_are_the_published_number(preset: str, published: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The released layout also holds a pad row in the gene table and a pad embedding, each one encoder width. Nothing is
    # padded here, so they are not kept. Published are models with the paper's decoder.
    config = model_config(preset, 19_264, {"decoder": {"kind": "performer"}})
    assert num_parameters(config, monkeypatch) + 2 * config.encoder.dim == published


def test_the_demo_fits_15_megabytes_of_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2 * num_parameters(model_config("demo", 20_000), monkeypatch) < 15_000_000


@pytest.mark.parametrize("preset", PRESETS)
def test_only_the_released_model_is_post_norm_with_the_papers_decoder_and_266_features(preset: str) -> None:
    config = model_config(preset, 100)
    assert config.num_genes == 100
    released = preset == "scfoundation"
    assert config.encoder.norm_first is not released
    assert config.decoder.num_features == (266 if released else 256)
    assert config.decoder.kind == ("performer" if released else "cross_attention")
    assert config.unmeasured == ("zero" if released else "mask")


def test_an_unknown_preset_names_the_known() -> None:
    with pytest.raises(ConfigError, match="no preset 'huge'; choose one of demo, 3M, 10M, 100M, scfoundation"):
        model_config("huge", 100)


def test_a_presets_settings_can_be_replaced_one_by_one() -> None:
    changed = model_config("demo", 100, {"latent_dim": 16, "encoder": {"dim": 64}, "decoder": {"num_layers": 3}})
    demo = model_config("demo", 100)
    assert changed == replace(
        demo, latent_dim=16, encoder=replace(demo.encoder, dim=64), decoder=replace(demo.decoder, num_layers=3)
    )
    assert model_config("demo", 100, {}) == demo


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 3}, "model: unknown setting 'width'; known are"),
        ({"encoder": {"depth": 3}}, "model.encoder: unknown setting 'depth'"),
        ({"encoder": {"dim": "wide"}}, "model.encoder.dim: int is needed, got 'wide'"),
        ({"encoder": 3}, "model.encoder: a table of settings is needed, got 3"),
        ({"encoder": {"dim": 30}}, "dim=30 is not a multiple of num_heads=4"),
        ({"num_genes": 5}, "model.num_genes is given by the gene list"),
    ],
)
def test_settings_that_no_model_has_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_config("demo", 100, changes)
