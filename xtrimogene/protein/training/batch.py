"""What one pass reads, and how far its predictions are off.

Letters: N tokens of a pass, packed; b pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from xtrimogene.data.movable import Movable
from xtrimogene.protein.config import ObjectiveStage, SpanMaskingConfig, TokenMaskingConfig
from xtrimogene.protein.examples.example import IGNORED, Example
from xtrimogene.protein.examples.objectives import draw_example, num_targets
from xtrimogene.protein.network.packed_sequences import PackedSequences, pack_labels
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.sequences.sequence_store import SequenceStore
from xtrimogene.protein.tokenizer import ProteinTokenizer


@dataclass(frozen=True, slots=True, eq=False)
class ProteinBatch(Movable):
    """What one forward and backward pass reads, and what it should say."""

    packed: PackedSequences
    labels: Int64[Tensor, "N"]
    num_targets: int

    @classmethod
    def from_examples(cls, examples: Sequence[Example]) -> "ProteinBatch":
        return cls(PackedSequences.from_examples(examples), pack_labels(examples), sum(map(num_targets, examples)))


def draw_examples(
    store: SequenceStore,
    pieces: Sequence[int],
    tokenizer: ProteinTokenizer,
    stage: ObjectiveStage,
    masking: TokenMaskingConfig,
    spans: SpanMaskingConfig,
    random: np.random.Generator,
) -> list[Example]:
    """Draw the objective of each piece, and what it hides, one after the other."""
    return [
        draw_example(store.piece(piece), tokenizer, stage, masking, spans, random, starts=bool(store.starts[piece]))
        for piece in pieces
    ]


def summed_loss(network: ProteinLM, batch: ProteinBatch) -> Float[Tensor, ""]:
    """Return the cross-entropy, in nats, summed over the targets."""
    logits = network(batch.packed).float()
    return F.cross_entropy(logits, batch.labels, ignore_index=IGNORED, reduction="sum")
