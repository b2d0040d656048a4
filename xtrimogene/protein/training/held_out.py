"""What a model predicts of sequences that it was not trained on."""

import numpy as np
import torch
from torch.nn import functional as F

from xtrimogene.protein.config import ObjectiveStage, SpanMaskingConfig, TokenMaskingConfig
from xtrimogene.protein.examples.example import IGNORED
from xtrimogene.protein.examples.objectives import draw_example, num_targets
from xtrimogene.protein.network.packed_sequences import PackedSequences, pack_labels
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.sequences.piece_sampler import split_by_tokens
from xtrimogene.protein.sequences.sequence_store import SequenceStore
from xtrimogene.protein.tokenizer import ProteinTokenizer

DRAW = 7  # beside the seed: apart from the generators of training


@torch.inference_mode()
def held_out_loss(
    network: ProteinLM,
    tokenizer: ProteinTokenizer,
    sequences: SequenceStore,
    stage: ObjectiveStage,
    *,
    masking: TokenMaskingConfig | None = None,
    spans: SpanMaskingConfig | None = None,
    seed: int = 0,
    token_budget: int = 16_384,
) -> float:
    """Return the cross-entropy in nats a predicted token, over every piece once.

    Parameters
    ----------
    stage
        What is asked for; its number of steps says nothing here.
    seed
        Of what is hidden: the same for every model that is compared.
    token_budget
        The tokens of a pass.
    """
    masking, spans = masking or TokenMaskingConfig(), spans or SpanMaskingConfig()
    random = np.random.default_rng([seed, DRAW])
    device = next(network.parameters()).device
    total, count = 0.0, 0
    for part in split_by_tokens(sequences.lengths, token_budget):
        examples = [
            draw_example(
                sequences.piece(piece),
                tokenizer,
                stage,
                masking,
                spans,
                random,
                starts=bool(sequences.starts[piece]),
            )
            for piece in range(part.start, part.stop)
        ]
        logits = network(PackedSequences.from_examples(examples).to(device)).float()
        labels = pack_labels(examples).to(device)
        total += float(F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum"))
        count += sum(map(num_targets, examples))
    return total / count
