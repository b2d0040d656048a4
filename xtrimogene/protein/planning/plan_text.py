"""A plan of a protein language model in words, 80 columns wide."""

from xtrimogene.protein.planning.model_plan import Interval, Plan, Run
from xtrimogene.protein.planning.recipe import FINAL_RATE, SEQUENCE_LENGTH
from xtrimogene.training.plan_words import count, duration, row, size_of

GOALS = {
    "mlm": "one model, MLM",
    "clm": "one model, CLM",
    "clm->mlm": "one model, CLM first, then MLM",
    "both": "two models of one size, CLM and MLM",
}


def plan_text(plan: Plan) -> str:
    size = f"{count(plan.num_parameters)} parameters{_between(plan.parameters_interval)}"
    lines = [
        row("train", f"{GOALS[plan.goal]}: {size}"),
        *(row(run.objective.upper(), _run(run)) for run in plan.runs),
        row("shape", _shape(plan)),
        row("recipe", _recipe(plan)),
        row("budget", _budget(plan)),
        row("memory", _memory(plan)),
        *(row("caution", caution) for caution in plan.cautions),
    ]
    if plan.contrary is not None:
        lines.append(row("but", _contrary(plan)))
    return "\n".join([*lines, row("law", _law(plan))])


def _run(run: Run) -> str:
    start = "on from there, " if run.start == "clm" else ""
    steps = f"{run.num_steps:,} steps, the first {run.warmup_steps:,} to warm up"
    epochs = "" if run.epochs is None else f", {run.epochs:.3g} times what there is"
    tokens = f"{start}{count(run.num_tokens)} tokens{_between(run.tokens_interval)}{epochs}; {steps}"
    if run.loss is None:
        return tokens
    bounds = "" if run.loss_interval is None else f" ({run.loss_interval[0]:.3f} to {run.loss_interval[1]:.3f})"
    return f"{tokens}; loss {run.loss:.3f}{bounds} predicted"


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f" ({count(interval[0])} to {count(interval[1])})"


def _shape(plan: Plan) -> str:
    shape = plan.shape
    size = f"{shape.num_layers} layers, {shape.dim:,} wide, {shape.num_heads} heads"
    return f"{size}: {count(shape.num_parameters)} parameters outside the embeddings"


def _recipe(plan: Plan) -> str:
    recipe = plan.recipe
    rates = f"learning rate {recipe.peak_rate:.2g} at its peak, {FINAL_RATE * recipe.peak_rate:.2g} at the end"
    return f"{recipe.batch_size:,} sequences of {SEQUENCE_LENGTH:,} tokens a step; AdamW, {rates}"


def _budget(plan: Plan) -> str:
    hours = f"{plan.gpu_hours:,.3g}" if plan.gpu_hours < 1000 else f"{plan.gpu_hours:,.0f}"
    asked = f"{plan.flops:.3g} operations; 6ND is {plan.balance:.3g} of them: {hours} hours of an {plan.device.name}"
    shared = "" if plan.num_gpus == 1 else f", {duration(plan.gpu_hours / plan.num_gpus)} on {plan.num_gpus:,}"
    counted = f"with scores and head {plan.all_operations:.3g} times 6ND is computed"
    return f"{asked} at {100 * plan.mfu:.3g} % of its peak{shared}; {counted}"


def _memory(plan: Plan) -> str:
    memory, device = plan.memory, plan.device
    needed = f"{size_of(memory.total)} on each of {plan.num_gpus:,}" if plan.num_gpus > 1 else size_of(memory.total)
    said = f"{needed}: {size_of(memory.states)} of weights, gradients and moments, the rest for a sequence"
    if plan.least_gpus is None:
        return f"{said}; not a sequence fits on an {device.name}"
    least = "1 is enough" if plan.least_gpus == 1 else f"at least {plan.least_gpus:,} are needed"
    return f"{said}; of {device.memory_gib:,.0f} GiB, {least}"


def _contrary(plan: Plan) -> str:
    other = plan.contrary
    assert other is not None
    return (
        f"Serrano et al. (2024; UniRef50 alone, small models) found N ~ C^.27 and D ~ C^.71: from this law's optimum "
        f"at {plan.runs[-1].law.fitted_flops[0]:.0e} on, that is {count(other.num_parameters)} parameters and "
        f"{count(other.num_tokens)} tokens"
    )


def _law(plan: Plan) -> str:
    laws = {run.law.name: run.law for run in plan.runs}.values()
    said = "; ".join(f"{law.name}, fitted on {law.data} ({law.source})" for law in laws)
    spans = " In brackets: 90 % of refits." if plan.parameters_interval is not None else ""
    return f"{said}.{spans}"
