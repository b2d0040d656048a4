"""A law of the compute in words, 80 columns wide."""

import textwrap

from xtrimogene.protein.scaling_laws.compute_optimal import ComputeOptimalLaw
from xtrimogene.protein.scaling_laws.power_law import PowerLaw


def law_text(law: ComputeOptimalLaw) -> str:
    low, high = law.fitted_flops
    powers = {"N": law.num_parameters, "D": law.num_tokens, "L": law.loss}
    lines = [f"{law.name}: {law.objective}, budgets of {low:.3g} to {high:.3g} operations"]
    for letter, power in powers.items():
        if power is not None:
            lines.append(f"  {letter} = {power.coefficient:.5g} C^{power.exponent:.5g}{_bounds(power)}")
    more = [10**power.exponent for power in (law.num_parameters, law.num_tokens)]
    lines.append(f"  ten times the compute: N x {more[0]:.3g}, D x {more[1]:.3g}")
    if law.caution:
        lines.append(textwrap.fill(f"caution: {law.caution}", 80))
    return "\n".join(lines)


def _bounds(power: PowerLaw) -> str:
    interval = power.exponent_interval()
    return "" if interval is None else f"  (90 % of refits: {interval[0]:.4g} to {interval[1]:.4g})"
