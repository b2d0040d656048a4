"""A plan in words, 80 columns wide: will it fit, how long, what to change; then the figures."""

import math

from xtrimogene.config import uses_bfloat16
from xtrimogene.training.model_size import PUBLISHED, paired_parameters
from xtrimogene.training.plan_words import GIB, MIB, count, duration, row, size_of
from xtrimogene.training.planning import USABLE, ModePlan, TrainingPlan, usable_bytes

PARTS = {
    "parameters": "parameters",
    "optimizer": "AdamW's moments",
    "gradients": "gradients, as far as made",
    "activations": "activations",
    "working": "temporary",
    "batch": "batch",
    "total": "together",
}


def plan_text(plan: TrainingPlan) -> str:
    answers = [row("fits", _fit(plan)), row("time", _time(plan)), row("change", _change(plan))]
    return "\n".join(
        [*answers, "", *_givens(plan), "", *_table(plan), "", row("size", _size(plan)), row("basis", BASIS)]
    )


BASIS = (
    "closed forms. Memory was held against measured steps on a CPU (benchmarks/plan_memory.py: within 15 %), not yet "
    "on a GPU. Validation, reading cells and communication are left out."
)


def _fit(plan: TrainingPlan) -> str:
    needed, usable, device = plan.chosen.memory.total, usable_bytes(plan.device), plan.device
    owned = f"{f'{device.memory_gib:,.1f}'.removesuffix('.0')} GiB of {device.name} x {USABLE:.0%}".replace("%", " %")
    return f"{'yes' if plan.fits else 'NO'}: {size_of(needed)} needed, {size_of(usable)} usable ({owned})"


def _time(plan: TrainingPlan) -> str:
    share = f"{100 * plan.utilisation:.0f} %"
    return (
        f"about {duration(plan.chosen.hours)} on {plan.num_devices} x {plan.device.name}, if {share} of the peak is "
        "reached (assumed: time some steps, then say what you reach)"
    )


def _change(plan: TrainingPlan) -> str:
    """Of what helps, name that which costs the least time."""
    chosen = plan.chosen
    if plan.fits:
        cheapest = plan.fitting[0]
        if cheapest == chosen:
            return f"nothing; up to {chosen.largest_micro_batch:,} cells a pass fit{_larger(plan)}"
        saved = 100 * (1 - cheapest.flops / chosen.flops)
        return (
            f'activation_checkpointing = "{cheapest.checkpointing}" fits too and saves {saved:.0f} % of the operations'
        )
    if chosen.largest_micro_batch:
        other = f"; or {_checkpointed(plan, plan.fitting[0])}" if plan.fitting else ""
        return f"micro_batch_size = {chosen.largest_micro_batch}: the same steps in smaller passes{other}"
    for mode in plan.modes:
        if mode.largest_micro_batch:
            return _checkpointed(plan, mode)
    return "not one cell fits: a device with more memory, or a smaller preset"


def _checkpointed(plan: TrainingPlan, mode: ModePlan) -> str:
    more = 100 * (mode.flops / plan.chosen.flops - 1)
    cut = "" if mode in plan.fitting else f" and micro_batch_size = {mode.largest_micro_batch}"
    return f'activation_checkpointing = "{mode.checkpointing}"{cut}, for {more:.0f} % more operations'


def _larger(plan: TrainingPlan) -> str:
    """What keeps passes from being as large as fit: the run's own cut, or more lanes than devices."""
    run, largest = plan.run, plan.chosen.largest_micro_batch
    if largest <= plan.micro_batch:
        return ""
    if plan.micro_batch < plan.lane_cells:
        cuts = [name for name in ("micro_batch_size", "micro_batch_tokens") if getattr(run, name) is not None]
        return f"; {' and '.join(cuts)} cut{'s' if len(cuts) == 1 else ''} them to {plan.micro_batch:,}"
    for fewer in range(plan.num_devices, run.sampling.num_lanes, plan.num_devices):
        if math.ceil(run.batch_size / fewer) < largest:  # a lane's cells vary by one
            return f"; sampling.num_lanes = {fewer} would make them larger"
    return ""


def _givens(plan: TrainingPlan) -> list[str]:
    run, data, num_genes = plan.run, plan.data, plan.model.num_genes
    precision = "bfloat16" if uses_bfloat16(run.precision, accelerator=plan.device.accelerator) else "float32"
    return [
        row("model", f"{run.preset}, {count(plan.num_parameters)} parameters, {num_genes:,} genes, {precision}"),
        row("data", f"{data.num_cells:,} cells, {data.expressed_genes:,.0f} genes expressed in each"),
        row("run", f"{run.num_steps:,} steps of {run.batch_size:,} cells, {_epochs(plan.epochs)}"),
        row("step", _step(plan)),
    ]


def _step(plan: TrainingPlan) -> str:
    lanes, devices = plan.run.sampling.num_lanes, plan.num_devices
    shared = f", {lanes // devices:,} on each of {devices:,} devices" if devices > 1 else ""
    cut = f", in passes of up to {plan.micro_batch:,}" if plan.micro_batch < plan.lane_cells else " in one pass"
    return f"{lanes:,} lane{'s' if lanes > 1 else ''}{shared}; up to {plan.lane_cells:,} cells of a lane{cut}"


def _epochs(epochs: float) -> str:
    return f"{epochs:.3g} epoch{'' if f'{epochs:.3g}' == '1' else 's'}"


def _table(plan: TrainingPlan) -> list[str]:
    modes = plan.modes
    unit, name = (GIB, "GiB") if plan.chosen.memory.total >= GIB else (MIB, "MiB")
    lines = [
        _columns("activation_checkpointing", [mode.checkpointing for mode in modes]),
        f"{name} on a device, at the fullest moment of a pass",
    ]
    lines += [
        _columns(f"  {label}", [f"{getattr(mode.memory, part) / unit:,.2f}" for mode in modes])
        for part, label in PARTS.items()
    ]
    lines.append(_columns("largest pass that fits, cells", [f"{mode.largest_micro_batch:,}" for mode in modes]))
    lines.append(_columns("operations of the run, FLOP", [f"{mode.flops:.2e}" for mode in modes]))
    lines.append(_columns("time", [duration(mode.hours) for mode in modes]))
    return lines


def _size(plan: TrainingPlan) -> str:
    ratios = ", ".join(f"{model.cells_per_parameter:.2f} in {model.name}" for model in PUBLISHED)
    small, large = paired_parameters(plan.data.num_cells)
    return (
        f"{plan.data.num_cells / plan.num_parameters:.2g} cells a parameter; {ratios}. So others would give these "
        f"cells {count(small)} to {count(large)} parameters: a habit, no optimum. No scaling law is known for "
        "models like these; compare two presets on held-out cells."
    )


def _columns(name: str, values: list[str]) -> str:
    return f"{name:<38}" + "".join(f"{value:>14}" for value in values)
