"""AdamW with a linear warm-up and a cosine, from a config."""

import math
from functools import partial

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from xtrimogene.config import OptimizerConfig


def build_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Matrices decay, vectors and embedding tables do not; what needs no gradient is left out."""
    linear = [module.weight for module in network.modules() if isinstance(module, nn.Linear)]
    decayed = [weight for weight in linear if weight.requires_grad]
    chosen = {id(weight) for weight in linear}
    others = [weight for weight in network.parameters() if weight.requires_grad and id(weight) not in chosen]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.peak_lr, betas=config.betas)


def build_schedule(optimizer: torch.optim.Optimizer, config: OptimizerConfig, num_steps: int) -> LambdaLR:
    """Learning rate by step, counted in optimizer steps."""
    return LambdaLR(optimizer, partial(learning_rate_factor, config=config, num_steps=num_steps))


def learning_rate_factor(step: int, config: OptimizerConfig, num_steps: int) -> float:
    """Share of the peak learning rate at this step: linear up, then a cosine down to ``final_lr_fraction``."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps))
    floor = config.final_lr_fraction
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
