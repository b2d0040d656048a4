"""What a model predicts of sequences that it was not trained on."""

import numpy as np
import torch

from xtrimogene.data.token_runs import token_runs
from xtrimogene.protein.config import ObjectiveStage, SpanMaskingConfig, TokenMaskingConfig
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.sequences.sequence_store import SequenceStore
from xtrimogene.protein.tokenizer import ProteinTokenizer
from xtrimogene.protein.training.batch import ProteinBatch, draw_examples, summed_loss

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
    for part in token_runs(sequences.lengths, token_budget):
        pieces = range(part.start, part.stop)
        examples = draw_examples(sequences, pieces, tokenizer, stage, masking, spans, random)
        batch = ProteinBatch.from_examples(examples).to(device)
        total += float(summed_loss(network, batch))
        count += batch.num_targets
    return total / count
