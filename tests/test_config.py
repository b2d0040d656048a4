"""Configs: checked once, written to JSON and back, with errors that say where."""

import json
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from xtrimogene.config import (
    DecoderConfig,
    EncoderConfig,
    MaskingConfig,
    ModelConfig,
    OptimizerConfig,
    PretrainConfig,
    ReadDepthConfig,
    StoreConfig,
    from_dict,
    to_dict,
)
from xtrimogene.errors import ConfigError
from xtrimogene.presets import PRESETS, model_config


@pytest.mark.parametrize("preset", PRESETS)
def test_model_config_survives_json(preset: str) -> None:
    config = model_config(preset, 19_264)
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_pretrain_config_survives_json() -> None:
    config = PretrainConfig(
        files=("a.h5ad", "b.zarr"),
        output="out",
        joined_by={"a.h5ad": "batch"},
        masking=MaskingConfig(max_visible=300),
        read_depth=ReadDepthConfig(beta_a=1.0),
        optimizer=OptimizerConfig(betas=(0.8, 0.9)),
    )
    assert from_dict(PretrainConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"files": ()}, "files is empty"),
        ({"files": ("a.h5ad", "a.h5ad")}, "a.h5ad is given twice"),
        ({"output": "cells"}, "ends in .zarr is needed"),
        ({"seed": -1}, "seed=-1 must not be negative"),
        ({"memory": 1e-7}, "memory=1e-07 GB is too little to work with; give 0.0001 at least"),
    ],
)
def test_a_store_that_cannot_be_is_refused(values: dict[str, Any], said: str) -> None:
    good = StoreConfig(files=("a.h5ad", "b.zarr"), output="cells.zarr", donor_key="donor")
    assert from_dict(StoreConfig, json.loads(json.dumps(to_dict(good)))) == good
    with pytest.raises(ConfigError, match=said):
        replace(good, **values)


def test_a_config_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        EncoderConfig().dim = 3  # type: ignore[misc]


def test_whole_numbers_are_accepted_where_fractions_are() -> None:
    config = from_dict(ModelConfig, {"num_genes": 5, "bin_alpha": 1})
    assert config.bin_alpha == 1.0 and type(config.bin_alpha) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_gene": 5}, r"run: unknown setting 'num_gene'; known are .*num_genes"),
        ({}, r"run: .*num_genes"),
        ({"num_genes": "5"}, r"run\.num_genes: int is needed, got '5'"),
        ({"num_genes": 5.0}, r"run\.num_genes: int is needed, got 5\.0"),
        ({"num_genes": True}, r"run\.num_genes: int is needed, got True"),
        ({"num_genes": None}, r"run\.num_genes: int is needed, got None"),
        ({"num_genes": [5]}, r"run\.num_genes: int is needed, got \[5\]"),
        ({"num_genes": 5, "encoder": 3}, r"run\.encoder: a table of settings is needed, got 3"),
        ({"num_genes": 5, "encoder": {"width": 3}}, r"run\.encoder: unknown setting 'width'"),
        ({"num_genes": 5, "encoder": {"dropout": "no"}}, r"run\.encoder\.dropout: float is needed, got 'no'"),
        ({"num_genes": 5, "encoder": {"norm_first": 1}}, r"run\.encoder\.norm_first: bool is needed, got 1"),
        ({"num_genes": 5, "latent_dim": "big"}, r"run\.latent_dim: int is needed, got 'big'"),
        ({"num_genes": 5, "pool": "sum"}, r"run\.pool: one of .*'latent' is needed, got 'sum'"),
    ],
)
def test_a_wrong_model_setting_says_where(values: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(ModelConfig, values, "run")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"files": "a.h5ad"}, r"config\.files: a list is needed, got 'a\.h5ad'"),
        ({"files": [1]}, r"config\.files\[0\]: str is needed, got 1"),
        ({"files": []}, r"files is empty"),
        ({"precision": "float16"}, r"config\.precision: one of .* is needed, got 'float16'"),
        ({"optimizer": {"betas": [0.9]}}, r"config\.optimizer\.betas: 2 values are needed"),
        ({"num_steps": 0}, r"num_steps=0 must be at least 1"),
        ({"seed": -1}, r"seed=-1 must not be negative"),
        ({"optimizer": {"betas": [1.0, 0.9]}}, r"optimizer: betas=\(1\.0, 0\.9\) must lie in \[0, 1\)"),
        ({"optimizer": {"weight_decay": -1}}, r"optimizer: weight_decay=-1\.0 must not be negative"),
        ({"joined_by": {"b.h5ad": "batch"}}, r"joined_by names 'b\.h5ad', which is not among files"),
        ({"joined_by": {"a.h5ad": 1}}, r"config\.joined_by\.a\.h5ad: str is needed, got 1"),
        ({"joined_by": "batch"}, r"config\.joined_by: a table is needed, got 'batch'"),
        ({"start": "cold"}, r"config\.start: one of 'random', 'spectral' is needed, got 'cold'"),
        ({"latent_kl_weight": 0.1}, r"latent_kl_weight=0\.1 must be 0, or positive beside a positive latent_weight"),
        ({"latent_kl_weight": -0.1, "latent_weight": 1}, r"latent_kl_weight=-0\.1 must be 0, or positive"),
        ({"read_depth": {"gene_spread": -1}}, r"gene_spread=-1\.0 must not be negative"),
        ({"decoder_share": 0.0}, r"leave nothing to train"),
        ({"decoder_share": 1.5}, r"decoder_share=1\.5 must lie in \[0, 1\]"),
        ({"masking": {"nonzero_fraction": 1.0}}, r"leaves the encoder nothing"),
        ({"masking": {"replace_fraction": 0.9, "random_fraction": 0.2}}, r"exceed 1 together"),
        ({"masking": {"zero_fraction": -0.1}}, r"zero_fraction=-0\.1 must lie in \[0, 1\]"),
        ({"masking": {"max_visible": 0}}, r"max_visible=0 must be at least 1"),
        ({"read_depth": {"unchanged_probability": 2.0}}, r"unchanged_probability=2\.0 must lie"),
        ({"read_depth": {"beta_b": 0.0}}, r"must be positive"),
        ({"optimizer": {"peak_lr": 0.0}}, r"peak_lr=0\.0 must be positive"),
        ({"weights": {"a.h5ad": float("inf")}}, r"'a.h5ad' has inf; a positive number is needed"),
        ({"optimizer": {"peak_lr": float("nan")}}, r"peak_lr=nan must be positive"),
        ({"optimizer": {"warmup_steps": -1}}, r"warmup_steps=-1 must not be negative"),
        ({"optimizer": {"gradient_clip": 0.0}}, r"gradient_clip=0\.0 must be positive"),
        ({"optimizer": {"final_lr_fraction": 7}}, r"final_lr_fraction=7\.0 must lie in \[0, 1\]"),
        ({"min_genes": 0}, r"min_genes=0 must be at least 1"),
        ({"latent_weight": -4}, r"latent_weight=-4\.0 must not be negative"),
        ({"redraw_every": -1}, r"redraw_every=-1 must not be negative"),
        ({"masking": {"nonzero_fraction": 0, "zero_fraction": 0}}, r"leave the decoder nothing to predict"),
    ],
)
def test_a_wrong_training_setting_says_where(values: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(PretrainConfig, {"files": ["a.h5ad"], "output": "out", **values})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EncoderConfig(dim=10, num_heads=4), "encoder: dim=10 is not a multiple of num_heads=4"),
        (lambda: DecoderConfig(dim=0), "decoder: dim=0 and num_heads=8 must be positive"),
        (lambda: EncoderConfig(num_layers=0), "encoder: num_layers=0"),
        (lambda: EncoderConfig(dropout=1.0), "encoder: dropout=1.0"),
        (lambda: DecoderConfig(num_features=0), "decoder: num_features=0"),
        (lambda: ModelConfig(num_genes=0), "num_genes=0"),
        (lambda: ModelConfig(num_genes=5, num_bins=0), "num_bins=0"),
        (lambda: ModelConfig(num_genes=5, latent_dim=0), "latent_dim=0"),
        (lambda: ModelConfig(num_genes=5, pool="latent"), "pool='latent' needs a model with a latent cell vector"),
    ],
)
def test_a_config_that_cannot_work_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()
