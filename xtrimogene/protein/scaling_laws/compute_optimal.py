"""Laws of the compute alone: which size and how many tokens give the least loss for so many operations.

Compute C counts 6 operations for each parameter and token; parameters N are those outside the embeddings (12 x layers
x width^2 of the usual transformer); tokens D are residues and special tokens; the loss is a mean in nats a predicted
token.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from xtrimogene.config import require
from xtrimogene.protein.scaling_laws.power_law import PowerLaw

Objective = Literal["mlm", "clm", "text"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimum:
    """What to train with so much compute; ``loss`` is None where the law does not give it."""

    flops: float
    num_parameters: float
    num_tokens: float
    loss: float | None

    @property
    def balance(self) -> float:
        """6ND / C: 1 where the two laws agree about the compute they share."""
        return 6 * self.num_parameters * self.num_tokens / self.flops


def check_known(name: str, objective: str, fitted_flops: tuple[float, float]) -> None:
    """Refuse a law of an unknown objective, or of budgets that are none.

    Raises
    ------
    ConfigError
        It is one.
    """
    known = get_args(Objective)
    require(objective in known, f"{name}: objective={objective!r} is not one of {', '.join(known)}.")
    low, high = fitted_flops
    require(
        0 < low <= high < math.inf,
        f"{name}: fitted_flops must be a positive budget and a larger one, not {low:g}, {high:g}.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeOptimalLaw:
    """N, D and loss as powers of C, each fitted by itself, on budgets from ``fitted_flops[0]`` to ``[1]``."""

    name: str
    objective: Objective
    num_parameters: PowerLaw
    num_tokens: PowerLaw
    loss: PowerLaw | None
    fitted_flops: tuple[float, float]
    data: str
    source: str
    caution: str = ""

    def __post_init__(self) -> None:
        check_known(self.name, self.objective, self.fitted_flops)

    def optimum(self, flops: float) -> Optimum:
        require(flops > 0, f"flops={flops:g} must be positive.")
        return Optimum(
            flops=flops,
            num_parameters=self.num_parameters.at(flops),
            num_tokens=self.num_tokens.at(flops),
            loss=None if self.loss is None else self.loss.at(flops),
        )

    def flops_of(self, num_parameters: float) -> float:
        """Return the compute whose best size this is."""
        return self.num_parameters.inverse(num_parameters)

    def extrapolates(self, flops: float) -> bool:
        low, high = self.fitted_flops
        return not low <= flops <= high


@dataclass(frozen=True, kw_only=True, slots=True)
class GrowthLaw:
    """How fast the best N and D grow with C, where a source gives exponents alone."""

    name: str
    objective: Objective
    parameters_exponent: float
    tokens_exponent: float
    data: str
    source: str
    caution: str = ""

    def through(self, start: Optimum) -> ComputeOptimalLaw:
        """Return the law that grows so from an optimum of another."""
        n, d = self.parameters_exponent, self.tokens_exponent
        return ComputeOptimalLaw(
            name=self.name,
            objective=self.objective,
            num_parameters=PowerLaw(coefficient=start.num_parameters / start.flops**n, exponent=n),
            num_tokens=PowerLaw(coefficient=start.num_tokens / start.flops**d, exponent=d),
            loss=None,
            fitted_flops=(start.flops, start.flops),
            data=self.data,
            source=self.source,
            caution=self.caution,
        )


def parity(one: ComputeOptimalLaw, other: ComputeOptimalLaw) -> Optimum:
    """Return where both laws want one size for one compute, as the first has it.

    Raises
    ------
    ConfigError
        The sizes grow alike and never meet.
    """
    a, b = one.num_parameters, other.num_parameters
    require(a.exponent != b.exponent, f"{one.name} and {other.name} grow alike; their sizes never meet.")
    return one.optimum((b.coefficient / a.coefficient) ** (1 / (a.exponent - b.exponent)))
