"""Memory of a training step with AdamW, in closed form: bytes of tensors, what ``max_memory_allocated`` counts.

A step is one pass, forward and backward, or several whose gradients add up. The fullest moment is one of these: the end
of a forward, with the gradients of earlier passes; the backward of a part, which has what it and the parts before it
keep, and the gradients of the parts after it or, after a first pass, of all; the optimizer's update.
"""

from dataclasses import dataclass

from xtrimogene.config import ModelConfig
from xtrimogene.model.memory_parts import FULL, StepForm, StepSize, parameter_count, parts_of


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingMemory:
    """Bytes at the fullest moment of a step."""

    parameters: int
    optimizer: int  # two moments of each weight that is trained
    gradients: int  # those that exist at that moment
    activations: int  # kept for backward, or computed again
    working: int  # temporaries of the part at work
    batch: int

    @property
    def total(self) -> int:
        return self.parameters + self.optimizer + self.gradients + self.activations + self.working + self.batch


def training_memory(config: ModelConfig, size: StepSize, form: StepForm) -> TrainingMemory:
    """Return the memory of a step on one device that holds the whole model."""
    parts = parts_of(config, size, form)
    trained = sum(part.weights for part in parts)
    earlier = trained if size.num_passes > 1 and not size.first else 0
    copies = parts[0].kept if form.bfloat16 else 0  # autocast is on for the whole step
    moments = [(earlier, sum(part.kept for part in parts), 0), (trained, copies, _update(config, trained, form))]
    left = waiting = 0
    for i in reversed(range(len(parts))):
        activations = sum(part.kept for part in parts[: i + 1]) + parts[i].again
        moments.append((earlier + waiting if earlier else left, activations, parts[i].working))
        left += parts[i].weights
        waiting += parts[i].weights * parts[i].waits
    gradients, activations, working = max(moments, key=lambda moment: FULL * moment[0] + moment[1] + moment[2])
    decoder = config.decoder
    projections = 0  # random features, redrawn and not trained
    if decoder.kind == "performer":
        projections = decoder.num_layers * decoder.num_features * decoder.dim // decoder.num_heads
    offsets = size.num_studies * config.num_genes
    return TrainingMemory(
        parameters=FULL * (parameter_count(config) + projections + offsets),
        optimizer=2 * FULL * trained,
        gradients=FULL * (gradients + (trained if form.data_parallel else 0)),
        activations=activations,
        working=working,
        batch=_batch(size, config.num_genes),
    )


def _update(config: ModelConfig, trained: int, form: StepForm) -> int:
    """AdamW's temporaries: one number a weight on an accelerator; on a CPU two, a matrix at a time."""
    return FULL * (trained if form.accelerator else 2 * (config.num_genes + 2) * config.encoder.dim)


def _batch(size: StepSize, num_genes: int) -> int:
    """Ids (8 bytes) and values (4) of visible, hidden and all genes; targets; the visible ones again with T and S."""
    seen = size.num_visible + size.num_hidden
    return (
        size.num_passes * size.num_cells * (12 * 2 * size.num_visible + 16 * size.num_hidden + 12 * seen)
        + size.num_studies * num_genes
    )
