"""The learning rate by step, and what decays."""

import math

import pytest
import torch

from xtrimogene.config import DecoderConfig, EncoderConfig, ModelConfig, OptimizerConfig
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.optimizer import build_optimizer, build_schedule, learning_rate_factor

CONFIG = OptimizerConfig(peak_lr=2e-3, warmup_steps=10, final_lr_fraction=0.1, weight_decay=0.5, betas=(0.8, 0.9))


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (60, 0.55), (110, 0.1), (500, 0.1)],
)
def test_learning_rate_rises_linearly_and_falls_by_a_cosine(step: int, factor: float) -> None:
    assert learning_rate_factor(step, CONFIG, 110) == pytest.approx(factor)


def test_the_cosine_is_a_cosine() -> None:
    quarter = learning_rate_factor(35, CONFIG, 110)
    assert quarter == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)


def test_without_warm_up_the_first_step_is_the_peak() -> None:
    assert learning_rate_factor(0, OptimizerConfig(warmup_steps=0), 10) == 1.0


def test_a_run_shorter_than_its_warm_up_only_rises() -> None:
    assert [learning_rate_factor(step, CONFIG, 5) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_schedule_follows_the_optimizers_steps() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=CONFIG.peak_lr)
    schedule = build_schedule(optimizer, CONFIG, 110)
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([2e-3 * learning_rate_factor(step, CONFIG, 110) for step in range(12)])


def test_matrices_decay_and_nothing_else_does() -> None:
    network = XTrimoGene(
        ModelConfig(
            num_genes=9,
            encoder=EncoderConfig(dim=8, num_layers=1, num_heads=2),
            decoder=DecoderConfig(dim=4, num_layers=1, num_heads=1, num_features=4),
            latent_dim=3,
        )
    )
    optimizer = build_optimizer(network, CONFIG)
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["betas"] == (0.8, 0.9)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decayed, others = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    assert decayed | others == set(names.values()) and not decayed & others
    assert {"encoder.blocks.0.expand.weight", "decoder.project.weight", "head.weight"} <= decayed
    assert {"gene_embedding.table", "value_embedding.bins", "value_embedding.mask"} <= others
    assert not [name for name in decayed if name.endswith("bias") or "norm" in name]
