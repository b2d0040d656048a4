"""The loss of held-out sequences: by hand, and the same in whatever passes."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from xtrimogene.protein.config import ObjectiveStage
from xtrimogene.protein.examples.example import Example, no_labels, source_positions
from xtrimogene.protein.network.packed_sequences import PackedSequences
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.sequences.sequence_store import SequenceStore
from xtrimogene.protein.tokenizer import ProteinTokenizer
from xtrimogene.protein.training.held_out import held_out_loss

TOKENIZER = ProteinTokenizer.xtrimopglm()
PROTEINS = ["MKTAYIAKQR", "GAVLI", "MSEQWENCEFGHIKLM", "ACDEFGHIKLMNPQRSTVWY"]


@pytest.fixture(scope="module")
def sequences() -> SequenceStore:
    tokens = [TOKENIZER.frame(TOKENIZER.encode(one)).astype(np.uint8) for one in PROTEINS]
    edges = np.cumsum([0, *map(len, tokens)])
    return SequenceStore(np.concatenate(tokens), edges, np.ones(len(tokens), bool))


def test_clm_is_the_mean_over_every_residue_and_the_end(tiny: ProteinLM, sequences: SequenceStore) -> None:
    begin, total, count = TOKENIZER.mark("begin"), 0.0, 0
    for number in range(len(PROTEINS)):
        piece = sequences.piece(number)
        for place in range(len(piece)):
            seen = np.concatenate([[begin], piece[:place]])
            total += float(F.cross_entropy(causal_logits(tiny, seen)[None], torch.tensor([piece[place]])))
            count += 1
    found = held_out_loss(tiny, TOKENIZER, sequences, ObjectiveStage(num_steps=1, clm=1.0))
    assert found == pytest.approx(total / count, rel=1e-5)


def causal_logits(network: ProteinLM, seen: np.ndarray) -> torch.Tensor:
    example = Example(seen, source_positions(len(seen)), no_labels(len(seen)), 0)
    with torch.inference_mode():
        return network(PackedSequences.from_examples([example]))[-1]


@pytest.mark.parametrize("objective", ["mlm", "clm", "span", "suffix"])
def test_passes_and_repeats_change_nothing(tiny: ProteinLM, sequences: SequenceStore, objective: str) -> None:
    stage = ObjectiveStage(num_steps=1, **{objective: 1.0})
    whole = held_out_loss(tiny, TOKENIZER, sequences, stage)
    assert held_out_loss(tiny, TOKENIZER, sequences, stage, token_budget=1) == pytest.approx(whole, rel=1e-5)
    assert math.isfinite(whole)
    if objective != "clm":
        assert held_out_loss(tiny, TOKENIZER, sequences, stage, seed=1) != whole
