"""A law of the compute in words, 80 columns wide."""

import textwrap

from xtrimogene.protein.scaling_laws.compute_optimal import ComputeOptimalLaw
from xtrimogene.protein.scaling_laws.power_law import PowerLaw


def law_text(law: ComputeOptimalLaw) -> str:
    low, high = law.fitted_flops
    powers = [("N", law.num_parameters), ("D", law.num_tokens), *([("L", law.loss)] if law.loss is not None else [])]
    lines = [f"{law.name}: {law.objective}, budgets of {low:.3g} to {high:.3g} operations"]
    lines += [
        f"  {letter} = {power.coefficient:.5g} C^{power.exponent:.5g}{_bounds(power)}" for letter, power in powers
    ]
    lines.append(
        f"  ten times the compute: N x {10**law.num_parameters.exponent:.3g}, D x {10**law.num_tokens.exponent:.3g}"
    )
    if law.caution:
        lines.append(textwrap.fill(f"caution: {law.caution}", 80))
    return "\n".join(lines)


def _bounds(power: PowerLaw) -> str:
    interval = power.exponent_interval()
    return "" if interval is None else f"  (90 % of refits: {interval[0]:.4g} to {interval[1]:.4g})"
