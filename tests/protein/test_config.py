"""Configs of protein models: checked once, written to JSON and back."""

import json
from typing import Any

import pytest

from xtrimogene.config import from_dict, to_dict
from xtrimogene.errors import ConfigError
from xtrimogene.protein.config import (
    ObjectiveStage,
    ProteinConfig,
    ProteinPretrainConfig,
    SpanMaskingConfig,
    TokenMaskingConfig,
    unified_stages,
)


def run(**settings: Any) -> ProteinPretrainConfig:
    stages = (ObjectiveStage(num_steps=10, mlm=1.0),)
    return ProteinPretrainConfig(**{"files": ("a.fasta",), "output": "out", "stages": stages, **settings})


def test_a_run_survives_json() -> None:
    config = run(stages=unified_stages(30, 70), model=ProteinConfig(feed_forward_dim=10), initialize_from="before")
    assert from_dict(ProteinPretrainConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(("dim", "width"), [(24, 64), (192, 512), (768, 2048), (4096, 10944), (4352, 11648)])
def test_the_feed_forward_part_is_8_thirds_wide_in_64s(dim: int, width: int) -> None:
    config = ProteinConfig(dim=dim, num_heads=2)
    assert config.feed_forward_width == width
    assert width % 64 == 0 and 0 <= width - 8 * dim / 3 < 64


def test_the_schedule_is_the_studys() -> None:
    config = run(stages=unified_stages(600, 400))
    assert config.num_steps == 1_000
    assert (config.optimizer.warmup_steps, config.optimizer.final_lr_fraction) == (25, 0.1)
    assert (config.optimizer.betas, config.optimizer.weight_decay, config.optimizer.gradient_clip) == (
        (0.9, 0.95),
        0.1,
        1,
    )


def test_each_step_is_of_one_stage() -> None:
    first, second = unified_stages(2, 3)
    config = run(stages=(first, second))
    assert [config.stage_at(step) for step in range(5)] == [first, first, second, second, second]
    with pytest.raises(IndexError):
        config.stage_at(5)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (ProteinConfig, {"dim": 20, "num_heads": 2}, r"dim=20 is not a multiple of 4 x num_heads=2"),
        (ProteinConfig, {"num_layers": 0}, "num_layers=0 must be at least 1"),
        (ProteinConfig, {"max_length": 7}, "max_length=7 must be at least 8"),
        (ProteinConfig, {"feed_forward_dim": 0}, "feed_forward_dim=0 must be at least 1, or None"),
        (TokenMaskingConfig, {"fraction": 0.0}, r"fraction=0.0 must lie in \(0, 1\]"),
        (TokenMaskingConfig, {"random_fraction": 0.3}, "exceed 1 together"),
        (SpanMaskingConfig, {"fraction": 0.6}, r"fraction=0.6 must lie in \(0, 0.5\]"),
        (SpanMaskingConfig, {"mean_length": 50.0}, "mean_length=50.0 must lie between 1 and max_length=39"),
        (ObjectiveStage, {"num_steps": 1, "mlm": 0.5}, "sum to 0.5; they must sum to 1"),
        (ObjectiveStage, {"num_steps": 0, "mlm": 1.0}, "num_steps=0 must be at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(kind: type, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"files": ()}, "files is empty"),
        ({"stages": ()}, "stages is empty"),
        ({"tokens_per_pass": 1_000}, "tokens_per_pass=1000 is less than model.max_length=1024"),
        ({"tokenizer": "esm", "stages": unified_stages(1, 1)}, "has no marks for span and suffix"),
        ({"peak_lr": 0.0}, "peak_lr=0.0 must be positive"),
        ({"warmup_fraction": 2.0}, r"warmup_fraction=2.0 must lie in \[0, 1\]"),
    ],
)
def test_runs_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(**settings)
