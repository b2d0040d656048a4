"""Training steps from sequences: packed, with what is hidden drawn anew at every step.

What a step reads is a function of the seed and the step alone, so a run goes on exactly where it stopped.
Letters: b pieces of a step.
"""

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from lightning import LightningDataModule

from xtrimogene.data.token_runs import token_runs
from xtrimogene.errors import ConfigError
from xtrimogene.protein.config import ProteinPretrainConfig
from xtrimogene.protein.sequences.piece_sampler import step_pieces
from xtrimogene.protein.sequences.sequence_store import SequenceStore
from xtrimogene.protein.tokenizer import ProteinTokenizer
from xtrimogene.protein.training.batch import ProteinBatch, draw_examples

ProteinStep = list[ProteinBatch]


class ProteinSteps:
    """The passes of each step, from this one on. Made anew for each sitting."""

    def __init__(self, store: SequenceStore, config: ProteinPretrainConfig, first_step: int) -> None:
        self.store, self.config, self.first_step = store, config, first_step
        self.tokenizer = ProteinTokenizer.named(config.tokenizer)

    def __iter__(self) -> Iterator[ProteinStep]:
        config = self.config
        pieces = step_pieces(self.store.lengths, config.tokens_per_step, seed=config.seed)
        for step, chosen in enumerate(islice(pieces, self.first_step, config.num_steps), self.first_step):
            yield self._draw(step, chosen)

    def _draw(self, step: int, pieces: Int64[np.ndarray, " b"]) -> ProteinStep:
        config, store = self.config, self.store
        random = np.random.default_rng([config.seed, step, 1])  # apart from the generators of the order
        stage = config.stage_at(step)
        examples = draw_examples(store, pieces.tolist(), self.tokenizer, stage, config.masking, config.spans, random)
        most = config.tokens_per_pass or config.tokens_per_step
        return [ProteinBatch.from_examples(examples[part]) for part in token_runs(store.lengths[pieces], most)]


class ProteinDataModule(LightningDataModule):
    def __init__(self, store: SequenceStore, config: ProteinPretrainConfig) -> None:
        super().__init__()
        self.store, self.config = store, config

    def train_dataloader(self) -> ProteinSteps:
        assert self.trainer is not None
        return ProteinSteps(self.store, self.config, self.trainer.global_step)

    def transfer_batch_to_device(self, batch: ProteinStep, device: torch.device, dataloader_idx: int) -> ProteinStep:
        from_here = [part.pin_memory() for part in batch] if device.type == "cuda" else batch
        return [part.to(device, non_blocking=True) for part in from_here]

    def state_dict(self) -> dict[str, Any]:
        return {"sequences": self._fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse to go on with other sequences.

        Raises
        ------
        ConfigError
            The files hold other sequences than when the checkpoint was written.
        """
        if state["sequences"] != self._fingerprint():
            raise ConfigError(
                "The files hold other sequences than when this run began, so it cannot go on exactly; bring the files "
                "back, or begin a run with another output."
            )

    def _fingerprint(self) -> str:
        sequences = hashlib.sha256(self.store.tokens.tobytes())
        sequences.update(self.store.edges.tobytes())
        return sequences.hexdigest()
