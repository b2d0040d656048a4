"""What a plan says."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from xtrimogene.long_work import whole_file
from xtrimogene.protein.planning.recipe import Recipe
from xtrimogene.protein.planning.shape import Shape
from xtrimogene.protein.scaling_laws.compute_optimal import ComputeOptimalLaw, Optimum
from xtrimogene.protein.scaling_laws.parametric import ParametricLaw
from xtrimogene.training.devices import Device

Goal = Literal["mlm", "clm", "clm->mlm", "both"]
Trained = Literal["mlm", "clm"]
Interval = tuple[float, float]
SizeLaw = ComputeOptimalLaw | ParametricLaw


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Training with one objective. ``interval``s hold 90 % of refits of the law to runs as noisy as those it has."""

    objective: Trained
    start: Literal["scratch", "clm"]  # from random weights, or from those of the run before
    law: SizeLaw
    budget: float  # operations that the law was asked about
    flops: float  # 6ND of this run
    num_tokens: float
    tokens_interval: Interval | None
    num_steps: int
    warmup_steps: int
    epochs: float | None  # None: nothing is known of how many tokens there are
    loss: float | None  # nats a predicted token
    loss_interval: Interval | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes on each GPU: weights, gradients and moments in float32, shared by all; and the activations of one pass."""

    states: int
    activations: int  # of one sequence, layer by layer computed again

    @property
    def total(self) -> int:
        return self.states + self.activations


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A model and how to train it; ``print`` it. With the goal "both" there are two models of this size, a run each.

    ``num_parameters`` (outside the embeddings) and the runs' tokens are those of the laws; ``shape`` is the nearest
    model. ``contrary`` is what another source's growth makes of the same budget.
    """

    goal: Goal
    flops: float  # the budget
    num_parameters: float
    parameters_interval: Interval | None
    shape: Shape
    recipe: Recipe
    runs: tuple[Run, ...]
    device: Device
    mfu: float
    num_gpus: int
    all_operations: float  # of our model for each of 6ND: scores, embeddings and head count too
    memory: Memory
    least_gpus: int | None  # that the model fits on; None: not a sequence of it fits on one, however it is shared
    contrary: Optimum | None
    cautions: tuple[str, ...]

    @property
    def num_tokens(self) -> float:
        """Of all runs together."""
        return sum(run.num_tokens for run in self.runs)

    @property
    def balance(self) -> float:
        """6ND / C: how far the two laws agree about the budget they share."""
        return 6 * self.num_parameters * self.num_tokens / self.flops

    @property
    def gpu_hours(self) -> float:
        """Of all GPUs together, for 6ND."""
        return self.flops * self.balance / (3600 * self.mfu * self.device.bfloat16_tflops * 1e12)

    @property
    def clm_share(self) -> float:
        """Of the tokens, those that CLM sees."""
        return sum(run.num_tokens for run in self.runs if run.objective == "clm") / self.num_tokens

    def __str__(self) -> str:
        from xtrimogene.protein.planning.plan_text import plan_text

        return plan_text(self)


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan as JSON, the laws by name."""
    values = {**asdict(plan), "num_tokens": plan.num_tokens, "balance": plan.balance, "gpu_hours": plan.gpu_hours}
    for run, written in zip(plan.runs, values["runs"], strict=True):
        written["law"] = run.law.name
    with whole_file(path) as scratch:
        scratch.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
