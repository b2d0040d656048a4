"""Scaling laws of protein language models: what they say of each budget, and the runs they were fitted to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import Float

from xtrimogene.config import require
from xtrimogene.errors import ConfigError
from xtrimogene.pl.embedding import new_axes
from xtrimogene.protein.planning.model_plan import Plan, SizeLaw
from xtrimogene.protein.scaling_laws.compute_optimal import ComputeOptimalLaw
from xtrimogene.training.plan_words import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Quantity = Literal["num_parameters", "num_tokens", "loss"]
AXES = {
    "num_parameters": "best number of parameters",
    "num_tokens": "best number of tokens",
    "loss": "loss, nats a predicted token",
}


def scaling_law(
    *laws: SizeLaw,
    of: Quantity = "num_parameters",
    flops: tuple[float, float] | None = None,
    plans: Sequence[Plan] = (),
    ax: "Axes | None" = None,
    title: str = "",
) -> "Axes":
    """Draw what laws say of each budget: lines where they were fitted, dashes beyond, bands that hold 90 % of refits.

    Parameters
    ----------
    of
        What is drawn against the budget.
    flops
        Budgets from the one to the other. Default: those of the laws' fits, ten times less and a hundred times more.
    plans
        Drawn as points: their size, all their tokens, or the loss of their last run.
    ax
        Where to draw. Default: a new figure.

    Raises
    ------
    ConfigError
        No law, a range that is none, or a law that does not give the quantity.
    """
    require(of in get_args(Quantity), f"of={of!r} is not one of {', '.join(get_args(Quantity))}.")
    require(bool(laws), "a law is needed; `xtrimogene.protein.read_law` gives one by its name.")
    if flops is None:
        flops = (min(law.fitted_flops[0] for law in laws) / 10, max(law.fitted_flops[1] for law in laws) * 100)
    require(0 < flops[0] < flops[1], f"flops={flops} must be a smaller budget and a larger one.")
    ax = new_axes(5.2, 3.8) if ax is None else ax
    for number, law in enumerate(laws):
        colour = f"C{number}"
        edges = np.clip(law.fitted_flops, *flops)
        for start, stop, style, label in (
            (flops[0], edges[0], "--", None),
            (edges[0], edges[1], "-", law.name),
            (edges[1], flops[1], "--", None),
        ):
            if start < stop:
                budgets = np.geomspace(start, stop, 60)
                ax.plot(budgets, _values(law, of, budgets), style, color=colour, label=label)
        _draw_band(law, of, np.geomspace(*flops, 120), ax, colour)
    for plan in plans:
        value = {"num_parameters": plan.num_parameters, "num_tokens": plan.num_tokens, "loss": plan.runs[-1].loss}[of]
        if value is None:
            raise ConfigError(f"the plan for {plan.flops:.3g} operations predicts no loss; draw it without it.")
        ax.plot(plan.flops, value, "o", color="black")
        said = f"{value:.3f}" if of == "loss" else count(value)
        free = (-6, -11 if of == "loss" else 6)  # the loss falls from left to right, the others rise
        ax.annotate(said, (plan.flops, value), xytext=free, ha="right", textcoords="offset points", fontsize=8)
    ax.set(xscale="log", xlabel="budget C, operations", ylabel=AXES[of], title=title)
    ax.set_yscale("linear" if of == "loss" else "log")
    ax.legend(frameon=False)
    return ax


def _values(law: SizeLaw, of: Quantity, budgets: Float[np.ndarray, " N"]) -> list[float]:
    values = [getattr(law.optimum(float(budget)), of) for budget in budgets]
    require(None not in values, f"{law.name} gives no {of}; draw another quantity.")
    return values


def _draw_band(law: SizeLaw, of: Quantity, budgets: Float[np.ndarray, " N"], ax: "Axes", colour: str) -> None:
    power = getattr(law, of) if isinstance(law, ComputeOptimalLaw) else None
    if power is not None and power.refits:
        low, high = np.array([power.interval(float(budget)) for budget in budgets]).T
        ax.fill_between(budgets, low, high, color=colour, alpha=0.15, linewidth=0)


def isoflop(
    flops: Float[np.ndarray, " _"] | Sequence[float],
    num_parameters: Float[np.ndarray, " _"] | Sequence[float],
    loss: Float[np.ndarray, " _"] | Sequence[float],
    *,
    law: SizeLaw | None = None,
    ax: "Axes | None" = None,
    title: str = "",
) -> "Axes":
    """Draw the loss of runs against their size, a line for each budget, and a law's optimum of each.

    Parameters
    ----------
    flops, num_parameters, loss
        Of N runs; runs of one budget have the same ``flops``.
    law
        Its best sizes are drawn as crosses on the least loss of each budget.
    ax
        Where to draw. Default: a new figure.

    Raises
    ------
    ConfigError
        The three are not as long as one another, or empty.
    """
    flops, num_parameters, loss = (np.asarray(values, float) for values in (flops, num_parameters, loss))
    lengths = {len(flops), len(num_parameters), len(loss)}
    require(
        len(lengths) == 1 and 0 not in lengths,
        f"one budget, size and loss a run are needed; {len(flops)}, {len(num_parameters)} and {len(loss)} came.",
    )
    ax = new_axes(5.6, 4.0) if ax is None else ax
    budgets = np.unique(flops)
    for number, budget in enumerate(budgets):
        here = np.flatnonzero(flops == budget)
        here = here[np.argsort(num_parameters[here])]
        shade = 0.15 + 0.75 * number / max(1, len(budgets) - 1)
        ax.plot(num_parameters[here], loss[here], "o-", markersize=3, color=_shade(shade), label=f"{budget:.0e}")
        if law is not None:
            ax.plot(law.optimum(float(budget)).num_parameters, loss[here].min(), "kx", markersize=7, zorder=3)
    ax.set(xscale="log", xlabel="parameters N", ylabel=AXES["loss"], title=title)
    ax.legend(title="budget C", frameon=False, fontsize=7, title_fontsize=8)
    return ax


def _shade(share: float) -> tuple[float, ...]:
    from matplotlib import colormaps

    return tuple(float(part) for part in colormaps["viridis"](share))
