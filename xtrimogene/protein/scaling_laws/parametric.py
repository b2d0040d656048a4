"""Laws of size and tokens: L(N, D) = E + A / N^alpha + B / D^beta (approach 3 of Hoffmann et al., arXiv 2203.15556)."""

import math
from dataclasses import dataclass

from xtrimogene.config import require
from xtrimogene.protein.scaling_laws.compute_optimal import Objective, Optimum, check_known
from xtrimogene.protein.scaling_laws.power_law import PowerLaw


@dataclass(frozen=True, kw_only=True, slots=True)
class ParametricLaw:
    """Loss in nats a token, of N parameters outside the embeddings and D tokens; ``E`` is what no model gets below."""

    name: str
    objective: Objective
    E: float
    A: float
    B: float
    alpha: float
    beta: float
    fitted_flops: tuple[float, float]
    data: str
    source: str
    caution: str = ""

    def __post_init__(self) -> None:
        check_known(self.name, self.objective, self.fitted_flops)
        constants = (self.E, self.A, self.B, self.alpha, self.beta)
        require(
            all(map(math.isfinite, constants)) and self.E >= 0 and min(constants[1:]) > 0,
            f"{self.name}: E, A, B, alpha, beta = {', '.join(f'{one:g}' for one in constants)} are no law; all but E "
            "must be positive, and all finite.",
        )

    def loss_of(self, num_parameters: float, num_tokens: float) -> float:
        return self.E + self.A / num_parameters**self.alpha + self.B / num_tokens**self.beta

    @property
    def parameters_exponent(self) -> float:
        """How the best size grows with compute: beta / (alpha + beta)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def num_parameters(self) -> PowerLaw:
        """The best N for C = 6ND."""
        scale = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        exponent = self.parameters_exponent
        return PowerLaw(coefficient=scale / 6**exponent, exponent=exponent)

    @property
    def num_tokens(self) -> PowerLaw:
        """The best D for C = 6ND."""
        size = self.num_parameters
        return PowerLaw(coefficient=1 / (6 * size.coefficient), exponent=1 - size.exponent)

    def optimum(self, flops: float) -> Optimum:
        """Return the best of all N and D with 6ND = C."""
        require(flops > 0, f"flops={flops:g} must be positive.")
        size, tokens = self.num_parameters.at(flops), self.num_tokens.at(flops)
        return Optimum(flops=flops, num_parameters=size, num_tokens=tokens, loss=self.loss_of(size, tokens))

    def flops_of(self, num_parameters: float) -> float:
        """Return the compute whose best size this is."""
        return self.num_parameters.inverse(num_parameters)

    def extrapolates(self, flops: float) -> bool:
        low, high = self.fitted_flops
        return not low <= flops <= high
