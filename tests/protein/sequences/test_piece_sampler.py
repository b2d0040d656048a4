"""Pieces are whole, each is read once an epoch, and a step has as many as fit."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.errors import SequenceError
from xtrimogene.protein.sequences.piece_sampler import step_pieces
from xtrimogene.protein.sequences.sequence_store import SequenceStore, piece_lengths
from xtrimogene.protein.tokenizer import ProteinTokenizer

OURS = ProteinTokenizer.xtrimopglm()
lengths_of_pieces = st.lists(st.integers(1, 20), min_size=1, max_size=30)


@given(lengths_of_pieces, st.integers(20, 90), st.integers(0, 9))
def test_steps_hold_each_piece_once_an_epoch(lengths: list[int], most: int, seed: int) -> None:
    array = np.asarray(lengths)
    steps = list(islice(step_pieces(array, most, seed=seed), 40))
    for step, following in zip(steps, steps[1:], strict=False):
        total = array[step].sum()
        assert 0 < total <= most < total + array[following[0]], "as many as fit"
    stream = np.concatenate(steps)
    for epoch in range(len(stream) // len(array)):
        assert sorted(stream[epoch * len(array) : (epoch + 1) * len(array)]) == list(range(len(array)))


def test_the_order_is_the_seeds_and_another_in_each_epoch() -> None:
    lengths = np.full(50, 2)
    first, again, other = (list(islice(step_pieces(lengths, 100, seed=seed), 2)) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any() and (first[0] != first[1]).any()


@given(st.integers(1, 400), st.integers(8, 50))
def test_pieces_are_few_and_of_one_length(num_tokens: int, most: int) -> None:
    pieces = piece_lengths(num_tokens, most)
    assert sum(pieces) == num_tokens and len(pieces) == -(-num_tokens // most)
    assert max(pieces) <= most and max(pieces) - min(pieces) <= 1


def test_a_store_cuts_long_sequences_and_knows_where_they_begin(tmp_path: Path) -> None:
    long = "MKTAYIAKQRQISFVKSHFS"
    (tmp_path / "a.fasta").write_text(f">short\nMKT\n>long\n{long}\n>last\nLLV\n")
    store = SequenceStore.from_files([str(tmp_path / "a.fasta")], OURS, max_length=8)
    assert store.lengths.tolist() == [4, 7, 7, 7, 4]
    assert store.starts.tolist() == [True, True, False, False, True]
    assert OURS.decode(np.concatenate([store.piece(i) for i in (1, 2, 3)])) == long + "<end>"
    assert OURS.decode(store.piece(0)) == "MKT<end>"


def test_a_letter_that_is_none_is_named_with_its_file_and_sequence(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">one\nMKT\n>two\nMK*\n")
    with pytest.raises(SequenceError, match=r"a.fasta, two: Letter '\*' at position 3"):
        SequenceStore.from_files([str(tmp_path / "a.fasta")], OURS, max_length=8)
