"""Variants of a protein: read from "A24G:L30P", or as whole sequences, and held against the wild type."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from xtrimogene.errors import SequenceError
from xtrimogene.protein.tokenizer import LETTERS, NUM_STANDARD

STANDARD = LETTERS[:NUM_STANDARD]
NOTATION = re.compile(r"([A-Z])(\d+)([A-Z])")


@dataclass(frozen=True, slots=True, order=True)
class Substitution:
    """``mutant`` in place of ``wild_type``; places count from 0."""

    place: int
    wild_type: str
    mutant: str


Variant = tuple[Substitution, ...]  # by place; those that change nothing are left out


def read_variants(variants: Sequence[str], wild_type: str, *, offset: int = 0) -> list[Variant]:
    """Return what each variant changes.

    Parameters
    ----------
    variants
        "A24G", or several with colons between; or the whole mutant sequence, as long as the wild type.
    offset
        How many residues are numbered before the first of ``wild_type``: 0 where that is number 1.

    Raises
    ------
    SequenceError
        The first variant that is neither, or does not fit the wild type.
    """
    return [_read(text, number, wild_type, offset) for number, text in enumerate(variants, 1)]


def _read(text: str, number: int, wild_type: str, offset: int) -> Variant:
    who = f"Variant {number} ({text if len(text) <= 40 else text[:37] + '...'})"
    if any(letter.isdigit() for letter in text):
        substitutions = _from_notation(text, who, wild_type, offset)
    elif text and text.isalpha():
        substitutions = _from_sequence(text, who, wild_type)
    else:
        raise SequenceError(f"{who} is neither like A24G or A24G:L30P nor a whole sequence; write it as one of them.")
    for one in substitutions:
        if one.mutant not in STANDARD:
            raise SequenceError(
                f"{who} puts {one.mutant!r} at position {one.place + 1 + offset}, which is none of {STANDARD}; "
                "leave it out."
            )
    return substitutions


def _from_notation(text: str, who: str, wild_type: str, offset: int) -> Variant:
    found = {}
    for part in text.split(":"):
        match = NOTATION.fullmatch(part)
        if match is None:
            raise SequenceError(f"{who}: {part!r} is not like A24G; put colons between several substitutions.")
        position = int(match[2])
        one = Substitution(position - 1 - offset, match[1], match[3])
        if not 0 <= one.place < len(wild_type):
            raise SequenceError(
                f"{who}: position {position} is not among {1 + offset} to {len(wild_type) + offset} of the wild type; "
                f"correct it, or offset={offset}."
            )
        if wild_type[one.place] != one.wild_type:
            raise SequenceError(
                f"{who}: the wild type has {wild_type[one.place]} at position {position}, not {one.wild_type}; "
                f"correct the variant, or offset={offset}."
            )
        if one.place in found:
            raise SequenceError(f"{who} changes position {position} twice; name it once.")
        found[one.place] = one
    return tuple(sorted(one for one in found.values() if one.mutant != one.wild_type))


def _from_sequence(text: str, who: str, wild_type: str) -> Variant:
    if len(text) != len(wild_type):
        raise SequenceError(
            f"{who} has {len(text):,} letters and the wild type {len(wild_type):,}; only substitutions are scored."
        )
    pairs = enumerate(zip(wild_type, text, strict=True))
    return tuple(Substitution(place, old, new) for place, (old, new) in pairs if old != new)
