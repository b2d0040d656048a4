"""A plan in words, 80 columns wide: will it fit, how long, what to change; then the figures."""

import textwrap

from xtrimogene.training.model_size import PUBLISHED, paired_parameters
from xtrimogene.training.planning import USABLE, TrainingPlan, usable_bytes, uses_bfloat16

GIB, MIB = 2**30, 2**20
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
    answers = [_row("fits", _fit(plan)), _row("time", _time(plan)), _row("change", _change(plan))]
    return "\n".join(
        [*answers, "", *_givens(plan), "", *_table(plan), "", _row("size", _size(plan)), _row("basis", BASIS)]
    )


BASIS = (
    "closed forms. Memory was held against measured steps on a CPU (benchmarks/plan_memory.py: within 15 %), not yet "
    "on a GPU. Reading cells and communication are not in the time."
)


def _fit(plan: TrainingPlan) -> str:
    needed, usable, device = plan.chosen.memory.total, usable_bytes(plan.device), plan.device
    owned = f"{device.memory_gib:,.0f} GiB of {device.name} x {USABLE:.0%}".replace("%", " %")
    return f"{'yes' if plan.fits else 'NO'}: {_size_of(needed)} needed, {_size_of(usable)} usable ({owned})"


def _time(plan: TrainingPlan) -> str:
    share = f"{100 * plan.utilisation:.0f} %"
    return (
        f"about {_duration(plan.chosen.hours)} on {plan.num_devices} x {plan.device.name}, if {share} of the peak is "
        "reached (assumed: time some steps, then say what you reach)"
    )


def _change(plan: TrainingPlan) -> str:
    """Of what helps, name that which costs the least time."""
    batch_size, chosen = plan.run.batch_size, plan.chosen
    for mode in plan.modes:
        if mode.largest_batch < batch_size:
            continue
        if mode == chosen:
            return f"nothing; up to {chosen.largest_batch:,} cells a device fit"
        if plan.fits and mode.flops < chosen.flops:
            saved = 100 * (1 - mode.flops / chosen.flops)
            return (
                f'activation_checkpointing = "{mode.checkpointing}" fits too and saves {saved:.0f} % of the operations'
            )
        more = 100 * (mode.flops / chosen.flops - 1)
        fewer = f"; so does batch_size = {chosen.largest_batch}" if chosen.largest_batch else ""
        return f'activation_checkpointing = "{mode.checkpointing}" fits, for {more:.0f} % more operations{fewer}'
    best = max(plan.modes, key=lambda mode: mode.largest_batch)
    if best.largest_batch == 0:
        return "not one cell fits: a device with more memory, or a smaller preset"
    return (
        f'batch_size = {best.largest_batch} with activation_checkpointing = "{best.checkpointing}"; or a device with '
        "more memory, a smaller decoder_share, a smaller preset"
    )


def _givens(plan: TrainingPlan) -> list[str]:
    run, data, num_genes = plan.run, plan.data, plan.model.num_genes
    precision = "bfloat16" if uses_bfloat16(run, plan.device) else "float32"
    return [
        _row("model", f"{run.preset}, {_count(plan.num_parameters)} parameters, {num_genes:,} genes, {precision}"),
        _row("data", f"{data.num_cells:,} cells, {data.expressed_genes:,.0f} genes expressed in each"),
        _row(
            "run",
            f"{plan.num_steps:,} steps of {run.batch_size:,} cells a device: {plan.passes:.3g} passes over the data",
        ),
    ]


def _table(plan: TrainingPlan) -> list[str]:
    modes = plan.modes
    unit, name = (GIB, "GiB") if plan.chosen.memory.total >= GIB else (MIB, "MiB")
    lines = [
        _columns("activation_checkpointing", [mode.checkpointing for mode in modes]),
        f"{name} on a device, at the fullest moment of a step",
    ]
    lines += [
        _columns(f"  {label}", [f"{getattr(mode.memory, part) / unit:,.2f}" for mode in modes])
        for part, label in PARTS.items()
    ]
    lines.append(_columns("largest batch that fits, cells", [f"{mode.largest_batch:,}" for mode in modes]))
    lines.append(_columns("operations of the run, FLOP", [f"{mode.flops:.2e}" for mode in modes]))
    lines.append(_columns("time", [_duration(mode.hours) for mode in modes]))
    return lines


def _size(plan: TrainingPlan) -> str:
    ratios = ", ".join(f"{model.cells_per_parameter:.2f} in {model.name}" for model in PUBLISHED)
    small, large = paired_parameters(plan.data.num_cells)
    return (
        f"{plan.data.num_cells / plan.num_parameters:.2g} cells a parameter; {ratios}. So others would give these "
        f"cells {_count(small)} to {_count(large)} parameters: a habit, no optimum. No scaling law is known for "
        "models like these; compare two presets on held-out cells."
    )


def _columns(name: str, values: list[str]) -> str:
    return f"{name:<38}" + "".join(f"{value:>14}" for value in values)


def _row(name: str, text: str) -> str:
    return textwrap.fill(text, 80, initial_indent=f"{name:<7} ", subsequent_indent=" " * 8)


def _size_of(num_bytes: int) -> str:
    return f"{num_bytes / GIB:,.1f} GiB" if num_bytes >= GIB else f"{num_bytes / MIB:,.0f} MiB"


def _count(number: int | float) -> str:
    if number < 1e6:
        return f"{float(f'{number:.2g}'):,.0f}"
    return f"{number / 1e6:,.0f} million" if number >= 1e7 else f"{number / 1e6:.1f} million"


def _duration(hours: float) -> str:
    if hours < 1.5:
        return f"{max(60 * hours, 0.1):.2g} min"
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:,.0f} days"
