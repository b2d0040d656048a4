"""Reads the splits of FLIP (Dallago et al. 2021): a number of each protein, or a label of each residue.

A task is a zip with splits/NAME.fasta, whose headers say SET=train or test and VALIDATION=True for the part of the
training set to choose settings on; older ones have splits/NAME.csv. A task of residues has its sequences in
splits/sequences.fasta, and in splits/mask.fasta a 1 for each residue whose label is known.
Letters: S proteins; r residues of one.
"""

import csv
import io
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from xtrimogene.errors import FileFormatError

FIELD = re.compile(r"(\w+)=(\S+)")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProteinTask:
    """A number of each protein; ``validation`` is a part of ``train``."""

    sequences: list[str]
    targets: Float64[np.ndarray, " S"]
    train: Bool[np.ndarray, " S"]
    validation: Bool[np.ndarray, " S"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ResidueTask:
    """A letter of each residue; those outside the mask are not judged."""

    names: list[str]
    sequences: list[str]
    labels: list[str]
    masks: list[Bool[np.ndarray, "_"]]
    train: Bool[np.ndarray, " S"]
    validation: Bool[np.ndarray, " S"]


def read_protein_task(path: str | os.PathLike[str], split: str) -> ProteinTask:
    """Read a task such as gb1.zip.

    Raises
    ------
    FileFormatError
        No such file or split, or one of another kind.
    """
    with _open(path) as archive:
        if f"splits/{split}.fasta" in archive.namelist():
            records = [(sequence, fields) for _, sequence, fields in _fasta(archive, f"splits/{split}.fasta")]
        else:
            rows = csv.DictReader(io.StringIO(_text(archive, f"splits/{split}.csv")))
            records = [(row["sequence"], {name.upper(): text for name, text in row.items()}) for row in rows]
    try:
        targets = np.asarray([float(fields["TARGET"]) for _, fields in records])
        train, validation = _sets([fields for _, fields in records])
    except (KeyError, ValueError) as error:
        raise FileFormatError(f"{path}: split {split!r} is no FLIP task of proteins ({error}).") from None
    sequences = [sequence for sequence, _ in records]
    return ProteinTask(sequences=sequences, targets=targets, train=train, validation=validation)


def read_residue_task(path: str | os.PathLike[str], split: str = "sampled") -> ResidueTask:
    """Read a task such as secondary_structure.zip.

    Raises
    ------
    FileFormatError
        No such file or split, one of another kind, or labels that are not one a residue.
    """
    with _open(path) as archive:
        records = list(_fasta(archive, f"splits/{split}.fasta"))
        sequences = {name: sequence for name, sequence, _ in _fasta(archive, "splits/sequences.fasta")}
        known: dict[str, str] = {}
        if "splits/mask.fasta" in archive.namelist():
            known = {name: mask for name, mask, _ in _fasta(archive, "splits/mask.fasta")}
    try:
        train, validation = _sets([fields for _, _, fields in records])
        own = [sequences[name] for name, _, _ in records]
    except KeyError as error:
        raise FileFormatError(f"{path}: split {split!r} is no FLIP task of residues ({error}).") from None
    masks = [known.get(name, "1" * len(labels)) for name, labels, _ in records]
    for (name, labels, _), sequence, mask in zip(records, own, masks, strict=True):
        if not len(labels) == len(sequence) == len(mask):
            raise FileFormatError(
                f"{path}: {name!r} has {len(sequence)} residues, {len(labels)} labels and a mask of {len(mask)}; "
                "they must be as many."
            )
    return ResidueTask(
        names=[name for name, _, _ in records],
        sequences=own,
        labels=[labels for _, labels, _ in records],
        masks=[np.asarray([one == "1" for one in mask]) for mask in masks],
        train=train,
        validation=validation,
    )


def _open(path: str | os.PathLike[str]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{path} cannot be read ({error}); give the zip of a FLIP task.") from None


def _text(archive: zipfile.ZipFile, name: str) -> str:
    if name not in archive.namelist():
        splits = sorted(one for one in archive.namelist() if one.endswith((".fasta", ".csv")))
        raise FileFormatError(f"{archive.filename} has no {name}; it holds {', '.join(splits)}.")
    return archive.read(name).decode()


def _fasta(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the name, the letters and the fields of the header."""
    for record in _text(archive, name).removeprefix(">").split("\n>"):
        header, _, letters = record.partition("\n")
        yield header.partition(" ")[0], "".join(letters.split()), dict(FIELD.findall(header))


def _sets(fields: list[dict[str, str]]) -> tuple[Bool[np.ndarray, " S"], Bool[np.ndarray, " S"]]:
    train = np.asarray([one["SET"] == "train" for one in fields])
    return train, train & np.asarray([one["VALIDATION"] == "True" for one in fields])
