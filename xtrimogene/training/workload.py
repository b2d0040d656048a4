"""A run's steps as numbers: what one reads, the memory and the operations it takes."""

import math
from dataclasses import dataclass

from xtrimogene.config import ActivationCheckpointing, MaskingConfig, ModelConfig, PretrainConfig
from xtrimogene.model.flops import training_step_flops
from xtrimogene.model.memory import TrainingMemory, training_memory
from xtrimogene.model.memory_parts import StepForm, StepSize
from xtrimogene.training.data_summary import DataSummary


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """Steps of a run whose cells are all as they were sequenced; those that are thinned need less."""

    run: PretrainConfig
    data: DataSummary
    model: ModelConfig

    def step(self, batch_size: int) -> StepSize:
        visible, hidden = visible_and_hidden(self.run.masking, self.model.num_genes, self.data.expressed_genes)
        return StepSize(
            num_cells=batch_size,
            num_decoded=math.ceil(self.run.decoder_share * batch_size),
            num_visible=visible + 2,
            num_hidden=hidden,
            latent=self.run.latent_weight > 0,
            num_studies=self.data.num_studies,
        )

    def memory(self, batch_size: int, form: StepForm) -> TrainingMemory:
        return training_memory(self.model, self.step(batch_size), form)

    def largest_batch(self, num_bytes: int, form: StepForm) -> int:
        """Return the most cells whose step fits into so many bytes; 0 if one does not."""
        fits, too_many = 0, 1
        while self.memory(too_many, form).total <= num_bytes:
            fits, too_many = too_many, 2 * too_many
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self.memory(middle, form).total <= num_bytes:
                fits = middle
            else:
                too_many = middle
        return fits

    def step_flops(self, checkpointing: ActivationCheckpointing) -> int:
        """Return the operations of one device in one step."""
        step = self.step(self.run.batch_size)
        return step.num_cells * training_step_flops(
            self.model,
            step.num_visible,
            step.num_hidden,
            decoder_share=self.run.decoder_share,
            latent=step.latent,
            batch_size=step.num_cells,
            checkpointing=checkpointing,
        )


def visible_and_hidden(masking: MaskingConfig, num_genes: int, expressed: float) -> tuple[int, int]:
    """Return how many genes of a cell the encoder reads, and how many the decoder predicts."""
    visible = (1 - masking.nonzero_fraction) * expressed
    visible = min(visible, masking.max_visible or visible)
    hidden = expressed - visible + masking.zero_fraction * (num_genes - expressed)
    return max(1, round(visible)), round(hidden)
