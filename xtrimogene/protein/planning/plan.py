"""From a budget to a training run: size, tokens, shape, recipe, hours, memory, and what speaks against it."""

import math
import os
from dataclasses import replace
from typing import Literal, get_args

from scipy.optimize import brentq

from xtrimogene.config import require
from xtrimogene.errors import ConfigError
from xtrimogene.protein.network.parameters import count_parameters, training_flops
from xtrimogene.protein.planning.cautions import cautions_of
from xtrimogene.protein.planning.model_plan import Goal, Memory, Plan, Run, SizeLaw, Trained
from xtrimogene.protein.planning.recipe import SEQUENCE_LENGTH, recipe_of
from xtrimogene.protein.planning.shape import Shape, shape_of
from xtrimogene.protein.scaling_laws.compute_optimal import ComputeOptimalLaw, GrowthLaw, Optimum
from xtrimogene.protein.scaling_laws.registry import Law, read_law
from xtrimogene.protein.scaling_laws.transfer import TransferLaw
from xtrimogene.training.devices import Device, find_device

Balance = Literal["laws", "tokens"]
MFU = 0.4  # assumed
FIRST_SHARE = 0.15
USABLE = 0.9  # of a GPU's memory


def plan(
    flops: float | None = None,
    objective: Goal = "mlm",
    *,
    gpu_hours: float | None = None,
    gpu: str = "H100",
    mfu: float = MFU,
    num_gpus: int = 1,
    law: Law | str | os.PathLike[str] | None = None,
    max_unique_tokens: float | None = None,
    first_share: float | None = None,
    balance: Balance = "laws",
) -> Plan:
    """Plan the protein language model that a budget trains best; ``print`` the plan.

    Parameters
    ----------
    flops
        The budget in operations, 6 for each parameter and token; or else ``gpu_hours``.
    objective
        "mlm" or "clm"; "clm->mlm": one model, first CLM, then MLM; "both": two models of one size, which share the
        budget.
    gpu_hours
        The budget in hours of all GPUs together.
    gpu
        The kind of GPU ("H100", "A100-80", ...); its bfloat16 peak turns hours into operations, and back.
    mfu
        The share of that peak which 6ND gets.
    num_gpus
        How many share the work and the memory.
    law
        By name (`law_names`), as a JSON file, or fitted. Default: that of Cheng et al. for the objective. "both" takes
        its sizes from two laws, so that none can be given; for "clm->mlm" it says the size.
    max_unique_tokens
        How many there are to train on; more are repeated.
    first_share
        "clm->mlm": of the tokens, those for CLM. Default: .15, as .1 to .2 were found best.
    balance
        "laws": parameters and tokens from a law each, so that 6ND is near the budget; "tokens": as many as the budget
        leaves to so many parameters, C / 6N.

    Raises
    ------
    ConfigError
        Not one budget, or not a positive one; a law of another objective, or one that gives no size; an unknown GPU.
    """
    device = find_device(gpu)
    require(device.accelerator, f"gpu={gpu!r} is no GPU; name one, such as H100.")
    require(objective in get_args(Goal), f"objective={objective!r} is not one of {', '.join(get_args(Goal))}.")
    require(balance in get_args(Balance), f"balance={balance!r} is not one of {', '.join(get_args(Balance))}.")
    require(0 < mfu <= 1, f"mfu={mfu} must lie in (0, 1]; it is a share of the peak.")
    require(num_gpus >= 1, f"num_gpus={num_gpus} must be at least 1.")
    require(
        max_unique_tokens is None or max_unique_tokens > 0, f"max_unique_tokens={max_unique_tokens} must be positive."
    )
    require(
        first_share is None or objective == "clm->mlm", f"first_share is of 'clm->mlm'; leave it out of {objective!r}."
    )
    require(law is None or objective != "both", "'both' has two laws; leave law= out, or plan 'mlm' and 'clm' apart.")
    budget = _budget(flops, gpu_hours, device, mfu)

    def one_run(trained: Trained, of: SizeLaw, share: float) -> Run:
        return _run(trained, of, share, balance, max_unique_tokens)

    runs: tuple[Run, ...]
    if objective == "both":
        clm, mlm = _size_law("clm", None), _size_law("mlm", None)
        first = _first_of_equal_size(clm, mlm, budget)
        runs = (one_run("clm", clm, first), one_run("mlm", mlm, budget - first))
    else:
        trained: Trained = "clm" if objective == "clm" else "mlm"
        runs = (one_run(trained, _size_law(trained, law), budget),)
    size_law, asked = runs[0].law, runs[0].budget
    size = size_law.num_parameters.at(asked)
    if objective == "clm->mlm":
        runs = _clm_first(runs[0], size, FIRST_SHARE if first_share is None else first_share, own=law is not None)
    shape = shape_of(size)
    least_gpus = _least_gpus(shape, device)
    return Plan(
        goal=objective,
        flops=budget,
        num_parameters=size,
        parameters_interval=size_law.num_parameters.interval(asked),
        shape=shape,
        recipe=recipe_of(size),
        runs=runs,
        device=device,
        mfu=mfu,
        num_gpus=num_gpus,
        all_operations=_all_operations(shape),
        memory=_memory(shape, num_gpus),
        least_gpus=least_gpus,
        contrary=_contrary(runs[-1]),
        cautions=cautions_of(size, runs, max_unique_tokens, least_gpus),
    )


def _budget(flops: float | None, gpu_hours: float | None, device: Device, mfu: float) -> float:
    if (flops is None) == (gpu_hours is None):
        raise ConfigError(f"one budget is needed, flops= or gpu_hours=; {'none' if flops is None else 'both'} came.")
    budget = gpu_hours * 3600 * mfu * device.bfloat16_tflops * 1e12 if gpu_hours is not None else flops
    assert budget is not None
    require(0 < budget < math.inf, f"the budget must be positive and finite, not {budget:g} operations.")
    return float(budget)


def _size_law(trained: Trained, law: Law | str | os.PathLike[str] | None) -> SizeLaw:
    law = f"cheng2024:{trained}" if law is None else law
    found = read_law(law) if isinstance(law, str | os.PathLike) else law
    if isinstance(found, GrowthLaw | TransferLaw):
        raise ConfigError(f"{found.name} says nothing of the best size for a budget; name a law that does.")
    require(
        found.objective in (trained, "text"),
        f"{found.name} is a law of {found.objective.upper()}, and {trained.upper()} is to be planned.",
    )
    return found


def _first_of_equal_size(one: SizeLaw, other: SizeLaw, budget: float) -> float:
    """Return what the first gets of the budget where both laws want one size."""

    def excess(first: float) -> float:
        return math.log(one.num_parameters.at(first) / other.num_parameters.at(budget - first))

    return float(brentq(excess, 1e-9 * budget, (1 - 1e-9) * budget, rtol=1e-12))


def _run(trained: Trained, law: SizeLaw, budget: float, balance: Balance, unique_tokens: float | None) -> Run:
    best = law.optimum(budget)
    tokens, interval = best.num_tokens, law.num_tokens.interval(budget)
    if balance == "tokens":
        sizes = law.num_parameters.interval(budget)
        tokens = budget / (6 * best.num_parameters)
        interval = None if sizes is None else (budget / (6 * sizes[1]), budget / (6 * sizes[0]))
    recipe = recipe_of(best.num_parameters)
    loss_law = law.loss if isinstance(law, ComputeOptimalLaw) else None
    return Run(
        objective=trained,
        start="scratch",
        law=law,
        budget=budget,
        flops=6 * best.num_parameters * tokens,
        num_tokens=tokens,
        tokens_interval=interval,
        num_steps=recipe.num_steps(tokens),
        warmup_steps=recipe.warmup_steps(tokens),
        epochs=None if unique_tokens is None else tokens / unique_tokens,
        loss=best.loss,
        loss_interval=None if loss_law is None else loss_law.interval(budget),
    )


def _clm_first(alone: Run, num_parameters: float, share: float, *, own: bool) -> tuple[Run, Run]:
    """Split an MLM run's tokens: a share of them for CLM, the rest from there on.

    The loss is predicted where CLM's share is one that was tried, and not for the user's own law.
    """
    require(0 < share < 1, f"first_share={share} must lie in (0, 1).")
    law = read_law("cheng2024:clm->mlm")
    assert isinstance(law, TransferLaw)
    rest = alone.num_tokens * (1 - share)
    tried = law.first_share[0] <= share <= law.first_share[1]
    predicted = law.transfer.at(6 * num_parameters * rest) if tried and not own else None  # of MLM's compute alone
    first = _cut(alone, num_parameters, share, objective="clm", start="scratch", loss=None)
    last = _cut(alone, num_parameters, 1 - share, objective="mlm", start="clm", loss=predicted)
    return first, last


def _cut(
    run: Run,
    num_parameters: float,
    share: float,
    *,
    objective: Trained,
    start: Literal["scratch", "clm"],
    loss: float | None,
) -> Run:
    recipe, tokens = recipe_of(num_parameters), run.num_tokens * share
    interval = run.tokens_interval
    return replace(
        run,
        objective=objective,
        start=start,
        flops=6 * num_parameters * tokens,
        num_tokens=tokens,
        tokens_interval=None if interval is None else (share * interval[0], share * interval[1]),
        num_steps=recipe.num_steps(tokens),
        warmup_steps=recipe.warmup_steps(tokens),
        epochs=None if run.epochs is None else share * run.epochs,
        loss=loss,
        loss_interval=None,
    )


def _all_operations(shape: Shape) -> float:
    """Return the operations of our model for each of 6ND: scores and head on top of the layers' weights."""
    counted = 6 * shape.num_parameters * SEQUENCE_LENGTH
    return training_flops(shape.config(SEQUENCE_LENGTH), [SEQUENCE_LENGTH]) / counted


def _memory(shape: Shape, num_gpus: int) -> Memory:
    """Return what a sequence needs whose layers are computed again in backward, in bfloat16.

    One layer at work keeps 34 bytes a token and channel (Korthikanti et al., arXiv 2205.05198, without the scores,
    which flash attention does not keep), the others 2.
    """
    activations = (2 * shape.num_layers + 34) * shape.dim * SEQUENCE_LENGTH
    return Memory(
        states=math.ceil(16 * count_parameters(shape.config(SEQUENCE_LENGTH)) / num_gpus), activations=activations
    )


def _least_gpus(shape: Shape, device: Device) -> int | None:
    alone = _memory(shape, 1)
    left = USABLE * device.memory_gib * 2**30 - alone.activations
    return math.ceil(alone.states / left) if left > 0 else None


def _contrary(run: Run) -> Optimum | None:
    """Return what the other source's growth makes of the budget, from the law's own optimum of the least budget."""
    if run.law.objective != "mlm" or run.budget <= run.law.fitted_flops[0]:
        return None
    growth = read_law("serrano2024")
    assert isinstance(growth, GrowthLaw)
    return growth.through(run.law.optimum(run.law.fitted_flops[0])).optimum(run.budget)
