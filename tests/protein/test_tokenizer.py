"""Letters and ids, both ways."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.errors import ConfigError, SequenceError
from xtrimogene.protein.tokenizer import LETTERS, ProteinTokenizer

BOTH = [ProteinTokenizer.xtrimopglm(), ProteinTokenizer.esm()]


def test_ids_are_those_of_the_released_models() -> None:
    ours, esm = BOTH
    assert ours.encode("LAGVSERTIDPKQNFYMHWCXBUZO.-").tolist() == list(range(1, 28))
    assert {mark: ours.mark(mark) for mark in ("pad", "mask", "suffix_mask", "span_mask")} == {
        "pad": 0,
        "mask": 28,
        "suffix_mask": 29,
        "span_mask": 30,
    }
    assert [ours.mark(mark) for mark in ("target_begin", "span_end", "end")] == [32, 33, 34]
    assert esm.encode("LAGVSERTIDPKQNFYMHWCXBUZO.-").tolist() == list(range(4, 31))
    assert [esm.mark(mark) for mark in ("begin", "pad", "end", "unknown", "mask")] == [0, 1, 2, 3, 32]
    # the example of the ESM-2 model cards
    assert esm.frame(esm.encode("MKTV")).tolist() == [0, 20, 15, 11, 7, 2]
    assert ours.frame(ours.encode("MKTV")).tolist() == [17, 12, 8, 4, 34]
    assert all(max(one.marks.values()) == one.size - 1 for one in BOTH)


@pytest.mark.parametrize("tokenizer", BOTH)
@given(sequence=st.text(alphabet=LETTERS, max_size=40))
def test_a_sequence_survives(tokenizer: ProteinTokenizer, sequence: str) -> None:
    ids = tokenizer.encode(sequence)
    assert tokenizer.decode(ids) == sequence
    assert tokenizer.is_letter(ids).all()
    assert not tokenizer.is_letter(np.asarray([*tokenizer.marks.values(), tokenizer.size])).any()


def test_the_standard_amino_acids_are_twenty() -> None:
    for tokenizer in BOTH:
        assert sorted(tokenizer.decode(tokenizer.standard)) == sorted("ACDEFGHIKLMNPQRSTVWY")


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("MKv", r"Letter 'v' at position 3 is none of LAGV.*; write it as a capital, or set to_upper=True\."),
        ("MK*", r"Letter '\*' at position 3 is none of .*; it is the stop at the end: remove it, .* sed '/\^>/!s/"),
        ("M*K", r"Letter '\*' at position 2 is none of LAGV.*; it is a stop codon: cut the sequence there\."),
        ("J", "Letter 'J' at position 1"),
        ("MK L", "Letter ' ' at position 3"),
        ("MΩ", "Letter 'Ω' at position 2 .*; remove it"),
        ("Mé", "Letter 'é' at position 2"),
        ("M?", r"Letter '\?' at position 2"),
    ],
)
def test_what_is_no_amino_acid_is_refused(sequence: str, message: str) -> None:
    for tokenizer in BOTH:
        with pytest.raises(SequenceError, match=message):
            tokenizer.encode(sequence)


def test_lower_case_is_read_where_asked_for() -> None:
    tokenizer = ProteinTokenizer.esm()
    assert tokenizer.encode("mKv", to_upper=True).tolist() == tokenizer.encode("MKV").tolist()


def test_marks_are_shown_by_their_names() -> None:
    tokenizer = ProteinTokenizer.xtrimopglm()
    assert tokenizer.decode(np.asarray([17, 30, 12, 34])) == "M<span_mask>K<end>"
    with pytest.raises(SequenceError, match="Id 31 means nothing in the vocabulary 'xtrimopglm'"):
        tokenizer.decode(np.asarray([31]))


def test_a_mark_that_a_vocabulary_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="The vocabulary 'esm' has no span_mask; use 'xtrimopglm', which has"):
        ProteinTokenizer.esm().mark("span_mask")
    with pytest.raises(ConfigError, match="tokenizer='bert' is not one of xtrimopglm, esm"):
        ProteinTokenizer.named("bert")
    assert ProteinTokenizer.named("esm") == ProteinTokenizer.esm()
