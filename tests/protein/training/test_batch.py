"""What is drawn from the pieces of a store."""

from pathlib import Path

import numpy as np

from xtrimogene.protein.config import ObjectiveStage, SpanMaskingConfig, TokenMaskingConfig
from xtrimogene.protein.sequences.sequence_store import SequenceStore
from xtrimogene.protein.tokenizer import ProteinTokenizer
from xtrimogene.protein.training.batch import ProteinBatch, draw_examples


def test_only_a_sequences_first_piece_begins_it(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">long\nMKTAYIAKQRQISFVKSH\n")
    tokenizer = ProteinTokenizer.xtrimopglm()
    store = SequenceStore.from_files([str(tmp_path / "a.fasta")], tokenizer, max_length=10)
    stage = ObjectiveStage(num_steps=1, clm=1.0)
    random = np.random.default_rng(0)
    examples = draw_examples(store, [0, 1], tokenizer, stage, TokenMaskingConfig(), SpanMaskingConfig(), random)
    first, second = (store.piece(number) for number in (0, 1))
    assert examples[0].token_ids.tolist() == [tokenizer.mark("begin"), *first[:-1]]
    assert examples[0].labels.tolist() == first.tolist()
    assert examples[1].token_ids.tolist() == second[:-1].tolist()
    assert examples[1].labels.tolist() == second[1:].tolist()
    assert ProteinBatch.from_examples(examples).num_targets == len(first) + len(second) - 1
