"""Vectors of proteins in an HDF5 file: ``names``, ``lengths`` (residues) and ``vectors`` (float32), row by row.

The attributes of the file say what they were made of and how.
Letters: S proteins; D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float32, Int64

from xtrimogene.long_work import whole_file

CHUNK = 256  # rows that are read together


@dataclass(frozen=True, slots=True, eq=False)
class ProteinVectors:
    """Proteins in the order of their file."""

    names: list[str]
    lengths: Int64[np.ndarray, " S"]
    vectors: Float32[np.ndarray, "S D"]


def write_vectors(path: Path, proteins: Sequence[ProteinVectors]) -> None:
    """Write a file; nothing half-written is ever seen under its name."""
    with whole_file(path) as whole, h5py.File(whole, "w") as file:
        names = [name for one in proteins for name in one.names]
        file.create_dataset("names", data=names, dtype=h5py.string_dtype())
        file.create_dataset("lengths", data=np.concatenate([one.lengths for one in proteins]))
        file.create_dataset("vectors", data=np.concatenate([one.vectors for one in proteins]))


def read_vectors(path: Path) -> ProteinVectors:
    with h5py.File(path) as file:
        return ProteinVectors(list(file["names"].asstr()[:]), file["lengths"][:], file["vectors"][:])


def join_as_hdf5(path: Path, parts: Sequence[Path], attributes: Mapping[str, str | int]) -> None:
    """Write the proteins of all parts, one part in memory at a time."""
    with whole_file(path) as whole, h5py.File(whole, "w") as file:
        file.attrs.update(attributes)
        for part in parts:
            with h5py.File(part) as source:
                for name, rows in source.items():
                    _append(file, name, rows)


def _append(file: h5py.File, name: str, rows: h5py.Dataset) -> None:
    if name not in file:
        of_row = rows.shape[1:]
        file.create_dataset(name, (0, *of_row), rows.dtype, maxshape=(None, *of_row), chunks=(CHUNK, *of_row))
    num_rows = len(file[name])
    file[name].resize(num_rows + len(rows), axis=0)
    file[name][num_rows:] = rows[:]
