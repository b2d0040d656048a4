"""What a FASTA holds, found in one quick pass: every mistake in it is named before long work begins."""

import hashlib
import warnings
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.errors import SequenceError
from xtrimogene.protein.sequences.fasta import read_fasta
from xtrimogene.protein.tokenizer import ProteinTokenizer

GAPS = frozenset("-.")


@dataclass(frozen=True, kw_only=True, slots=True)
class FastaSurvey:
    """``sha256`` is that of the file as it lies there, gzipped or not."""

    sha256: str
    num_proteins: int
    num_residues: int


def survey_fasta(path: Path, tokenizer: ProteinTokenizer, *, to_upper: bool = False) -> FastaSurvey:
    """Read all of a FASTA, and keep eight bytes a record; warn once of what looks like an alignment.

    Raises
    ------
    FileFormatError
        No such file, or no FASTA.
    SequenceError
        The first record with a letter that is none; a name that occurs twice.
    """
    hashes, num_residues, gapped = array("Q"), 0, ""
    for number, (name, sequence) in enumerate(read_fasta(path), 1):
        try:
            tokenizer.encode(sequence, to_upper=to_upper)
        except SequenceError as error:
            raise SequenceError(f"{path}, record {number:,} ({name!r}): {error}") from None
        hashes.append(_hash(name))
        num_residues += len(sequence)
        if not gapped and not GAPS.isdisjoint(sequence):
            gapped = name
    if gapped:
        warnings.warn(
            f"{path} looks like an alignment: {gapped!r} has gaps, which are read as letters; remove '-' and '.'.",
            stacklevel=3,
        )
    values, occurrences = np.unique(np.frombuffer(hashes, np.uint64), return_counts=True)
    if occurrences.max() > 1:
        _name_twice(path, {int(value) for value in values[occurrences > 1]})
    return FastaSurvey(sha256=file_sha256(path), num_proteins=len(hashes), num_residues=num_residues)


def _name_twice(path: Path, suspects: set[int]) -> None:
    """Raise if a name is there twice; two names of one hash are none."""
    first: dict[str, int] = {}
    for number, (name, _) in enumerate(read_fasta(path), 1):
        if name in first:
            raise SequenceError(
                f"{path}: records {first[name]:,} and {number:,} are both named {name!r}; give each its own name."
            )
        if _hash(name) in suspects:
            first[name] = number


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
