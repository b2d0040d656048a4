"""What training on CLM first is worth to MLM: effectively transferred tokens (Hernandez et al., arXiv 2102.01293)."""

from dataclasses import dataclass

from xtrimogene.protein.scaling_laws.power_law import PowerLaw


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferLaw:
    """``D_t = k * D_f ** alpha * N ** beta`` MLM tokens that D_f CLM tokens save, and the loss of either way.

    ``scratch`` and ``transfer`` are losses of the MLM compute, that of CLM not counted. ``first_share``: of a fixed
    budget, what had better go to CLM first, as the source has it.
    """

    name: str
    k: float
    alpha: float
    beta: float
    scratch: PowerLaw
    transfer: PowerLaw
    first_share: tuple[float, float]
    fitted_parameters: tuple[float, float]
    data: str
    source: str
    caution: str = ""

    def transferred_tokens(self, first_tokens: float, num_parameters: float) -> float:
        return self.k * first_tokens**self.alpha * num_parameters**self.beta

    def best_first_tokens(self, num_parameters: float) -> float:
        """Return the D_f whose last token saves one token: more of them cost more than they save."""
        return (self.k * self.alpha * num_parameters**self.beta) ** (1 / (1 - self.alpha))
