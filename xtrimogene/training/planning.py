"""What a pre-training run needs, before it is started: memory, operations, hours, and what to change."""

import math
from dataclasses import dataclass, replace
from typing import get_args

from xtrimogene.config import ActivationCheckpointing, ModelConfig, PretrainConfig, check_latent, require, uses_bfloat16
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.sampler import lanes_of
from xtrimogene.errors import ConfigError
from xtrimogene.model.memory import TrainingMemory
from xtrimogene.model.memory_parts import StepForm, parameter_count
from xtrimogene.presets import model_config
from xtrimogene.training.data_summary import DataSummary, summarize_files
from xtrimogene.training.devices import Device, find_device
from xtrimogene.training.workload import Workload

USABLE = 0.9  # of a device's memory; the rest is for its driver, library workspaces and gaps between tensors
# Of the peak; assumed, as no step of ours has been timed on a GPU. The demo model's 17 minutes on a CPU core are 0.47.
UTILISATION = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class ModePlan:
    """A run under one way of keeping activations for backward."""

    checkpointing: ActivationCheckpointing
    memory: TrainingMemory  # of a device
    largest_micro_batch: int  # cells of a pass; 0: not even one fits
    flops: int  # of the whole run, those that are done again too
    hours: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlan:
    """What a run needs; ``print`` it. ``modes`` are "none", "feed_forward" and "layer"; ``chosen`` is the run's."""

    run: PretrainConfig
    data: DataSummary
    model: ModelConfig
    device: Device
    num_devices: int
    utilisation: float
    lane_cells: int  # the most that a lane gives to a step
    micro_batch: int  # the most cells of a pass
    epochs: float  # how often the run sees each cell
    modes: tuple[ModePlan, ...]

    @property
    def chosen(self) -> ModePlan:
        return next(mode for mode in self.modes if mode.checkpointing == self.run.activation_checkpointing)

    @property
    def fitting(self) -> tuple[ModePlan, ...]:
        """The modes that fit; the first of them computes least."""
        return tuple(mode for mode in self.modes if mode.memory.total <= usable_bytes(self.device))

    @property
    def fits(self) -> bool:
        return self.chosen in self.fitting

    @property
    def num_parameters(self) -> int:
        return parameter_count(self.model)

    def __str__(self) -> str:
        from xtrimogene.training.plan_text import plan_text

        return plan_text(self)


def plan(
    run: PretrainConfig | str,
    data: DataSummary | None = None,
    *,
    batch_size: int | None = None,
    num_lanes: int | None = None,
    device: str = "H100",
    num_devices: int = 1,
    memory_gib: float | None = None,
    utilisation: float = UTILISATION,
    epochs: float | None = None,
) -> TrainingPlan:
    """Say what a pre-training run needs, from closed forms; nothing is computed on a device.

    Parameters
    ----------
    run
        A run's config, or the name of a preset for a run with every other setting at its default.
    data
        Default: the cells of the run's files, of which some are looked at.
    batch_size, num_lanes
        Cells of a step on all devices together and the lanes that give them, instead of the run's.
    device, memory_gib
        A kind of `xtrimogene.training.devices.DEVICES`, and its memory where it is another.
    num_devices
        Each holds the whole model and takes an equal share of the lanes.
    utilisation
        The share of the device's peak that the run attains: turns operations into hours.
    epochs
        How often each cell is seen, instead of the run's ``num_steps``. Default for a preset: once.

    Raises
    ------
    ConfigError
        An unknown preset or device, or a number that cannot be; devices that cannot share the lanes.
    FileFormatError, CountsError, GeneMatchError, FieldError
        The run's files are needed and will not do.
    """
    require(num_devices >= 1, f"num_devices={num_devices} must be at least 1.")
    require(0 < utilisation <= 1, f"utilisation={utilisation} must lie in (0, 1], as a share of the peak.")
    require(epochs is None or 0 < epochs < math.inf, f"epochs={epochs} must be positive.")
    if isinstance(run, str):
        if data is None:
            raise ConfigError("A preset alone says nothing of the cells; give data, or the config of a run.")
        run, epochs = PretrainConfig(files=("none",), output="none", preset=run), epochs or 1.0
    sampling = run.sampling if num_lanes is None else replace(run.sampling, num_lanes=num_lanes)
    run = replace(run, batch_size=run.batch_size if batch_size is None else batch_size, sampling=sampling)
    lanes_of(0, num_devices, sampling.num_lanes)
    model = model_config(run.preset, len(GeneVocabulary.human()), run.model)
    check_latent(run, model)
    kind = find_device(device)
    if memory_gib is not None:
        require(0 < memory_gib < math.inf, f"memory_gib={memory_gib} must be positive.")
        kind = replace(kind, memory_gib=memory_gib)
    if data is None:
        data = summarize_files(run.files, min_genes=run.min_genes, joined_by=run.joined_by, weights=run.weights)
    require(
        data.expressed_genes <= model.num_genes,
        f"expressed_genes={data.expressed_genes:,.0f} is more than the {model.num_genes:,} genes of the model.",
    )
    work = Workload(run=run, data=data, model=model, num_devices=num_devices)
    if epochs is not None:
        work = replace(work, run=replace(run, num_steps=math.ceil(epochs * work.sampler.steps_per_epoch)))
    return TrainingPlan(
        run=work.run,
        data=data,
        model=model,
        device=kind,
        num_devices=num_devices,
        utilisation=utilisation,
        lane_cells=work.lane_cells,
        micro_batch=work.micro_batch,
        epochs=work.cells_seen / data.num_cells,
        modes=tuple(_mode_plan(work, mode, kind, utilisation) for mode in get_args(ActivationCheckpointing)),
    )


def _mode_plan(work: Workload, checkpointing: ActivationCheckpointing, device: Device, utilisation: float) -> ModePlan:
    form = StepForm(
        checkpointing=checkpointing,
        bfloat16=uses_bfloat16(work.run.precision, accelerator=device.accelerator),
        accelerator=device.accelerator,
        data_parallel=work.num_devices > 1,
    )
    flops = work.flops(checkpointing)
    peak = 1e12 * (device.bfloat16_tflops if form.bfloat16 else device.float32_tflops)
    return ModePlan(
        checkpointing=checkpointing,
        memory=work.memory(work.micro_batch, form),
        largest_micro_batch=work.largest_micro_batch(usable_bytes(device), form),
        flops=flops,
        hours=flops / (work.num_devices * utilisation * peak) / 3600,
    )


def usable_bytes(device: Device) -> int:
    return int(USABLE * device.memory_gib * 2**30)
