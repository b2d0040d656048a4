"""What speaks against a plan, a sentence each."""

from collections.abc import Sequence

from xtrimogene.protein.planning.model_plan import Run
from xtrimogene.protein.planning.recipe import recipe_of
from xtrimogene.protein.scaling_laws.registry import read_law
from xtrimogene.protein.scaling_laws.transfer import TransferLaw

UNPROVEN = 1e22  # operations; the largest models that were trained by these laws took about as much
HARMFUL_EPOCHS = 7.4  # of UniRef50, where the validation loss of a 3B MLM turned (Cheng et al., released curves)
ZERO_SHOT = 650e6  # parameters of the best of ESM-2 at ProteinGym
FEW_STEPS = 1_000


def cautions_of(
    num_parameters: float, runs: Sequence[Run], max_unique_tokens: float | None, least_gpus: int | None
) -> tuple[str, ...]:
    return (
        *_range(runs),
        *_law(runs),
        *_repeats(num_parameters, runs, max_unique_tokens),
        *_steps(num_parameters, runs),
        *_transfer(num_parameters, runs),
        *_zero_shot(num_parameters, runs),
        *_devices(least_gpus),
    )


def _range(runs: Sequence[Run]) -> list[str]:
    said = []
    for run in {run.law.name: run for run in runs}.values():
        low, high = run.law.fitted_flops
        if run.law.extrapolates(run.budget):
            times = f"{run.budget / high:,.3g} times the largest" if run.budget > high else "less than the least"
            beyond = "; past 1e22 no law of proteins is proven" if run.budget > UNPROVEN else ""
            fitted = f"{run.law.name} was fitted on budgets from {low:.3g} to {high:.3g}"
            said.append(f"{fitted}; {run.budget:.3g} is {times}{beyond}.")
    return said


def _law(runs: Sequence[Run]) -> list[str]:
    laws = {run.law.name: run.law for run in runs}.values()
    return [
        *(f"{law.name} is of text, not of proteins." for law in laws if law.objective == "text"),
        *(f"{law.name}: {law.caution}" for law in laws if law.caution),
    ]


def _repeats(num_parameters: float, runs: Sequence[Run], unique: float | None) -> list[str]:
    if unique is None:
        return []
    tokens = max(run.num_tokens for run in runs) if _apart(runs) else sum(run.num_tokens for run in runs)
    epochs = tokens / unique
    if epochs <= 1:
        return []
    said = f"The law knows tokens that are seen once; here each is seen {epochs:.1f} times."
    if epochs > HARMFUL_EPOCHS:
        said += f" After {HARMFUL_EPOCHS} times UniRef50 a 3B MLM got worse: get more sequences."
    larger = num_parameters * tokens / unique
    return [said + f" Once each, the same operations train {larger / 1e9:,.3g}B parameters."]


def _apart(runs: Sequence[Run]) -> bool:
    return all(run.start == "scratch" for run in runs)


def _steps(num_parameters: float, runs: Sequence[Run]) -> list[str]:
    fewest = min(run.num_steps for run in runs)
    if fewest >= FEW_STEPS:
        return []
    size = recipe_of(num_parameters).batch_size
    return [f"{fewest:,} steps of the source's {size} sequences are few: take smaller batches."]


def _transfer(num_parameters: float, runs: Sequence[Run]) -> list[str]:
    if _apart(runs):
        return []
    law = read_law("cheng2024:clm->mlm")
    assert isinstance(law, TransferLaw)
    (small, large), (least, most) = law.fitted_parameters, law.first_share
    tokens = sum(run.num_tokens for run in runs)
    even = law.split(6 * num_parameters * tokens, num_parameters).first_share
    first = sum(run.num_tokens for run in runs if run.start == "scratch") / tokens
    spent = f"{100 * least:.0f} % to {100 * most:.0f} %"
    tried = f"pairs of runs of {small / 1e6:.0f}M to {large / 1e9:.1f}B parameters, {spent}"
    if runs[-1].loss is None:
        said = f"No loss is predicted: {law.name} is of {tried} of whose compute was CLM's, and of its own data."
    else:
        scratch = law.scratch.at(6 * num_parameters * tokens)
        said = (
            f"The loss after CLM is by {law.name}, of {tried} of whose compute was CLM's; by the same source MLM alone "
            f"comes to {scratch:.3f} with all the compute."
        )
    if not least <= first <= most:
        return [f"{said} So small or large a share of CLM was not measured."]
    verdict = "gains" if first < even else "does NOT gain"
    saved = f"CLM saves as many tokens of MLM as it takes up to {100 * even:.0f} % of all"
    return [f"{said} {saved}; {100 * first:.0f} % {verdict}."]


def _zero_shot(num_parameters: float, runs: Sequence[Run]) -> list[str]:
    if num_parameters <= ZERO_SHOT or all(run.objective == "clm" for run in runs):
        return []
    return [
        "The least loss is not the best zero-shot score of variants: on ProteinGym ESM-2 has .414 at 650M and .406 at "
        "3B, xTrimoPGLM-MLM .399 at 3B and .396 at 10B (Spearman)."
    ]


def _devices(least_gpus: int | None) -> list[str]:
    if least_gpus == 1:
        return []
    return ["It does not fit on one GPU, and `xtrimogene protein pretrain` trains on one so far."]
