"""Training sequences in memory, a byte a letter, cut into pieces that a model can read.

Letters: T tokens of all sequences; P pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from xtrimogene.errors import FileFormatError, SequenceError
from xtrimogene.protein.sequences.sequence_files import read_sequences
from xtrimogene.protein.tokenizer import ProteinTokenizer


@dataclass(frozen=True, slots=True, eq=False)
class SequenceStore:
    """Piece i is ``tokens[edges[i]:edges[i + 1]]``; ``starts`` tells where a sequence begins with it."""

    tokens: UInt8[np.ndarray, " T"]
    edges: Int64[np.ndarray, " bounds"]
    starts: Bool[np.ndarray, " P"]

    @classmethod
    def from_files(
        cls, files: Sequence[str], tokenizer: ProteinTokenizer, *, max_length: int, column: str = "sequence"
    ) -> "SequenceStore":
        """Read all sequences; one that is longer than ``max_length`` is cut into pieces of about one length.

        Raises
        ------
        FileFormatError, MissingExtraError
            As `read_sequences`, or there is no sequence.
        SequenceError
            A letter that is no amino acid.
        """
        parts, lengths, starts = [np.empty(0, np.uint8)], [0], list[bool]()
        for file in files:
            for name, sequence in read_sequences(file, column):
                try:
                    tokens = tokenizer.frame(tokenizer.encode(sequence)).astype(np.uint8)
                except SequenceError as error:
                    raise SequenceError(f"{file}, {name}: {error}") from None
                pieces = piece_lengths(len(tokens), max_length)
                parts.append(tokens)
                lengths += pieces
                starts += [True] + [False] * (len(pieces) - 1)
        if not starts:
            raise FileFormatError(f"{', '.join(files)} hold no sequence; name a file that has some.")
        return cls(np.concatenate(parts), np.cumsum(lengths), np.asarray(starts, bool))

    @property
    def lengths(self) -> Int64[np.ndarray, " P"]:
        return np.diff(self.edges)

    def piece(self, number: int) -> Int64[np.ndarray, " n"]:
        return self.tokens[self.edges[number] : self.edges[number + 1]].astype(np.int64)


def piece_lengths(num_tokens: int, max_length: int) -> list[int]:
    """Return the lengths of the fewest pieces, which differ by one at most."""
    num_pieces = -(-num_tokens // max_length)
    return [stop - start for start, stop in pairwise(i * num_tokens // num_pieces for i in range(num_pieces + 1))]
