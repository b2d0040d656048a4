"""A run's steps as numbers: the passes that one is cut into, the memory and the operations they take."""

import math
from collections import Counter
from dataclasses import dataclass, replace

from xtrimogene.config import ActivationCheckpointing, MaskingConfig, ModelConfig, PretrainConfig
from xtrimogene.data.sampler import Sampler
from xtrimogene.model.flops import training_step_flops
from xtrimogene.model.memory import TrainingMemory, training_memory
from xtrimogene.model.memory_parts import StepForm, StepSize
from xtrimogene.training.data_summary import DataSummary


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """Steps of a run whose cells are all as they were sequenced; those that are thinned need less.

    A pass is one forward and backward of a micro-batch: the cells of one lane, or a part of them.
    """

    run: PretrainConfig
    data: DataSummary
    model: ModelConfig
    num_devices: int = 1

    @property
    def sampler(self) -> Sampler:
        run = self.run
        return Sampler([(self.data.num_cells, 1.0)], batch_size=run.batch_size, config=run.sampling, seed=run.seed)

    @property
    def cells_seen(self) -> int:
        return self.sampler.cells_before(self.run.num_steps)

    @property
    def lane_cells(self) -> int:
        """The most cells that a lane gives to a step."""
        sampler = self.sampler
        longest_lane = math.ceil(sampler.cells_per_epoch / self.run.sampling.num_lanes)
        return math.ceil(longest_lane / sampler.steps_per_epoch)

    @property
    def micro_batch(self) -> int:
        """The most cells of a pass."""
        return self._cut(self.lane_cells)

    def step(self, micro_batch: int) -> StepSize:
        """Return the fullest pass of so many cells; those that pass the decoder come first in a lane."""
        visible, hidden = self._visible_and_hidden
        lane_cells = self.lane_cells
        cells_of_a_device = lane_cells * self.run.sampling.num_lanes // self.num_devices
        return StepSize(
            num_cells=micro_batch,
            num_decoded=min(micro_batch, math.ceil(self.run.decoder_share * max(lane_cells, micro_batch))),
            num_visible=visible + 2,
            num_hidden=hidden,
            latent=self.run.latent_weight > 0,
            num_studies=self.data.num_studies,
            num_passes=math.ceil(cells_of_a_device / micro_batch),
            decoder=self.run.decoder_share > 0,
        )

    def memory(self, micro_batch: int, form: StepForm) -> TrainingMemory:
        sizes = [self.step(micro_batch)]
        if self.run.sampling.num_lanes == self.num_devices and sizes[0].num_passes > 1:
            # the decoder's cells come first in the only lane, when there are no gradients yet
            left = max(0, math.ceil(self.run.decoder_share * self.lane_cells) - micro_batch)
            sizes = [replace(sizes[0], first=True), replace(sizes[0], num_decoded=min(left, micro_batch))]
        memories = [training_memory(self.model, size, form) for size in sizes]
        return max(memories, key=lambda memory: memory.total)

    def largest_micro_batch(self, num_bytes: int, form: StepForm) -> int:
        """Return the most cells whose pass fits into so many bytes; 0 if one does not."""
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

    def flops(self, checkpointing: ActivationCheckpointing) -> int:
        """Return the operations of the run on all devices together."""
        sampler = self.sampler
        lane_cells = round(sampler.cells_per_epoch / sampler.steps_per_epoch / self.run.sampling.num_lanes)
        micro_batch = self._cut(lane_cells)
        decoded = math.ceil(self.run.decoder_share * lane_cells)
        passes = Counter(
            (min(micro_batch, lane_cells - start), min(micro_batch, lane_cells - start, max(0, decoded - start)))
            for start in range(0, lane_cells, micro_batch)
        )
        visible, hidden = self._visible_and_hidden
        of_a_lane = sum(
            count
            * num_cells
            * training_step_flops(
                self.model,
                visible + 2,
                hidden,
                num_cells=num_cells,
                num_decoded=num_decoded if self.run.decoder_share else None,
                latent=self.run.latent_weight > 0,
                checkpointing=checkpointing,
            )
            for (num_cells, num_decoded), count in passes.items()
        )
        return self.cells_seen * of_a_lane // lane_cells

    def _cut(self, lane_cells: int) -> int:
        """Cells of a pass when a lane gives so many: the run may want smaller ones."""
        run, visible = self.run, self._visible_and_hidden[0]
        of_tokens = lane_cells if run.micro_batch_tokens is None else max(1, run.micro_batch_tokens // visible)
        return min(lane_cells, run.micro_batch_size or lane_cells, of_tokens)

    @property
    def _visible_and_hidden(self) -> tuple[int, int]:
        return visible_and_hidden(self.run.masking, self.model.num_genes, self.data.expressed_genes)


def visible_and_hidden(masking: MaskingConfig, num_genes: int, expressed: float) -> tuple[int, int]:
    """Return how many genes of a cell the encoder reads, and how many the decoder predicts."""
    visible = (1 - masking.nonzero_fraction) * expressed
    visible = min(visible, masking.max_visible or visible)
    hidden = expressed - visible + masking.zero_fraction * (num_genes - expressed)
    return max(1, round(visible)), round(hidden)
