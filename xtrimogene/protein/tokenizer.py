"""Amino acids as ids: the vocabularies of xTrimoPGLM and of ESM-2.

Source: xTrimoPGLM (arXiv 2401.06199); the alphabet of facebookresearch/esm.
Letters: n residues of one sequence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Int64

from xtrimogene.errors import ConfigError, SequenceError

Vocabulary = Literal["xtrimopglm", "esm"]
Mark = Literal["pad", "begin", "end", "mask", "span_mask", "suffix_mask", "target_begin", "span_end", "unknown"]

LETTERS = "LAGVSERTIDPKQNFYMHWCXBUZO.-"  # the same in both; the first 20 are the standard amino acids
NUM_STANDARD = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ProteinTokenizer:
    """One id a letter, and marks for everything else.

    Parameters
    ----------
    first_letter
        The id of the first letter of ``LETTERS``; the others follow.
    marks
        The ids that are no letters. "begin" is what a sequence grows from, letter by letter.
    size
        One more than the largest id.
    begins_each
        Whether "begin" stands before each sequence, whatever is learned from it.
    """

    name: Vocabulary
    first_letter: int
    marks: Mapping[Mark, int]
    size: int
    begins_each: bool

    @classmethod
    def xtrimopglm(cls) -> "ProteinTokenizer":
        """Return the vocabulary of xTrimoPGLM; its eod (31) is not used."""
        marks: dict[Mark, int] = {
            "pad": 0,
            "mask": 28,  # tMASK
            "suffix_mask": 29,  # gMASK
            "span_mask": 30,  # sMASK
            "target_begin": 32,  # sop
            "begin": 32,
            "span_end": 33,  # eop
            "end": 34,  # eos
        }
        return cls(name="xtrimopglm", first_letter=1, marks=marks, size=35, begins_each=False)

    @classmethod
    def esm(cls) -> "ProteinTokenizer":
        """Return the vocabulary of ESM-2; its <null_1> (31) is not used."""
        marks: dict[Mark, int] = {"begin": 0, "pad": 1, "end": 2, "unknown": 3, "mask": 32}
        return cls(name="esm", first_letter=4, marks=marks, size=33, begins_each=True)

    @classmethod
    def named(cls, name: str) -> "ProteinTokenizer":
        """Return the vocabulary of this name."""
        if name not in get_args(Vocabulary):
            raise ConfigError(f"tokenizer={name!r} is not one of {', '.join(get_args(Vocabulary))}.")
        return cls.esm() if name == "esm" else cls.xtrimopglm()

    @property
    def standard(self) -> Int64[np.ndarray, "20"]:
        """The ids of the 20 standard amino acids."""
        return np.arange(self.first_letter, self.first_letter + NUM_STANDARD)

    def mark(self, mark: Mark) -> int:
        """Return the id of a mark.

        Raises
        ------
        ConfigError
            This vocabulary has none.
        """
        if mark not in self.marks:
            raise ConfigError(f"The vocabulary {self.name!r} has no {mark}; use 'xtrimopglm', which has.")
        return self.marks[mark]

    def encode(self, sequence: str, *, to_upper: bool = False) -> Int64[np.ndarray, " n"]:
        """Return the ids of a sequence's letters, without marks.

        Parameters
        ----------
        to_upper
            Read lower-case letters, which some databases write for masked regions, as capitals.

        Raises
        ------
        SequenceError
            A letter that is not in the vocabulary.
        """
        if to_upper:
            sequence = sequence.upper()
        table = np.full(256, -1)
        table[np.frombuffer(LETTERS.encode(), np.uint8)] = self.first_letter + np.arange(len(LETTERS))
        ids = table[np.frombuffer(sequence.encode("latin-1", "replace"), np.uint8)]  # a stranger becomes a "?"
        if len(ids) and ids.min() < 0:
            place = int((ids < 0).argmax())
            raise SequenceError(_unknown(sequence, place))
        return ids

    def decode(self, ids: Int64[np.ndarray, " n"]) -> str:
        """Return letters; a mark is written as its name in angle brackets.

        Raises
        ------
        SequenceError
            An id that means nothing in this vocabulary.
        """
        names: dict[int, str] = {id: f"<{mark}>" for mark, id in self.marks.items()}
        names |= {self.first_letter + i: letter for i, letter in enumerate(LETTERS)}
        try:
            return "".join([names[id] for id in ids.tolist()])
        except KeyError as error:
            raise SequenceError(f"Id {error} means nothing in the vocabulary {self.name!r}; decode letters.") from None

    def frame(self, ids: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
        """Return a whole sequence as it is trained on: its letters and where it ends."""
        begin = [self.mark("begin")] if self.begins_each else []
        return np.concatenate([np.asarray(begin, np.int64), ids, [self.mark("end")]])

    def is_letter(self, ids: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        return (ids >= self.first_letter) & (ids < self.first_letter + len(LETTERS))


def _unknown(sequence: str, place: int) -> str:
    letter, remedy = sequence[place], "remove it"
    if letter.islower():
        remedy = "write it as a capital, or set to_upper=True"
    elif letter == "*" and place == len(sequence) - 1:
        remedy = r"it is the stop at the end: remove it, from a FASTA by sed '/^>/!s/\*$//'"
    elif letter == "*":
        remedy = "it is a stop codon: cut the sequence there"
    return f"Letter {letter!r} at position {place + 1} is none of {LETTERS}; {remedy}."
