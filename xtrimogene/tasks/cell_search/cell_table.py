"""What is known of the cells of an index: their names, and columns of text such as label, donor and study.

An HDF5 file of one group a column: ``categories`` (text) and ``codes`` (a number into them for each cell, -1 for none).
Rows and columns are read as they are asked for, so ten million cells take no memory.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool, Int, Int64, Shaped

from xtrimogene.errors import ConfigError, FieldError

NAMES = "names"
SHOWN = 8


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextColumn:
    """One text of few for each cell; the code -1 is none."""

    categories: tuple[str, ...]
    codes: Int[np.ndarray, " N"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CellTable:
    """The file at ``path``, and its columns."""

    path: Path
    columns: tuple[str, ...]

    @classmethod
    def write(cls, path: Path, names: Shaped[np.ndarray, " N"], columns: Mapping[str, TextColumn]) -> "CellTable":
        """Write the names of cells, in the order of their vectors, and columns as long."""
        text = h5py.string_dtype()
        with h5py.File(path, "w") as file:
            file.create_dataset(NAMES, data=names.astype(object), dtype=text)
            file.attrs.create("columns", list(columns), dtype=text)
            for number, column in enumerate(columns.values()):
                group = file.create_group(f"column-{number}")
                group.create_dataset("categories", data=list(column.categories), dtype=text)
                group.create_dataset(
                    "codes", data=column.codes.astype(np.int32), compression="gzip", compression_opts=1
                )
        return cls(path=path, columns=tuple(columns))

    @classmethod
    def open(cls, path: Path) -> "CellTable":
        with h5py.File(path, "r") as file:
            return cls(path=path, columns=tuple(str(name) for name in file.attrs["columns"]))

    def __len__(self) -> int:
        with h5py.File(self.path, "r") as file:
            return int(file[NAMES].shape[0])

    def allowed(self, where: Mapping[str, str | Collection[str]]) -> Bool[np.ndarray, " N"]:
        """Say which cells have, in each of these columns, one of these values.

        Raises
        ------
        FieldError
            No such column.
        ConfigError
            A value that no cell has.
        """
        allowed = np.ones(len(self), dtype=bool)
        for name, wanted in where.items():
            values = {wanted} if isinstance(wanted, str) else set(map(str, wanted))
            column = self.column(name)
            missing = sorted(values - set(column.categories))
            if missing:
                there = ", ".join(sorted(column.categories)[:SHOWN]) or "nothing"
                more = f" and {len(column.categories) - SHOWN:,} more" if len(column.categories) > SHOWN else ""
                raise ConfigError(f"no cell of the index has {name}={missing[0]!r}; there are {there}{more}.")
            chosen = [code for code, category in enumerate(column.categories) if category in values]
            allowed &= np.isin(column.codes, chosen)
        return allowed

    def column(self, name: str) -> TextColumn:
        """Read a column.

        Raises
        ------
        FieldError
            There is none of this name.
        """
        if name not in self.columns:
            raise FieldError(f"the index has no column {name!r}, it has {', '.join(self.columns) or 'none'}.")
        with h5py.File(self.path, "r") as file:
            group = file[f"column-{self.columns.index(name)}"]
            return TextColumn(categories=tuple(group["categories"].asstr()[:]), codes=group["codes"][:])

    def take(self, rows: Int64[np.ndarray, " R"]) -> dict[str, Shaped[np.ndarray, " R"]]:
        """Return names and all columns of these rows, in their order; None where a cell has no value."""
        wanted, place = np.unique(rows, return_inverse=True)
        with h5py.File(self.path, "r") as file:
            taken = {NAMES: file[NAMES].asstr()[wanted][place]}
            for number, name in enumerate(self.columns):
                group = file[f"column-{number}"]
                texts = np.array([*group["categories"].asstr()[:], None], dtype=object)  # -1 is the last
                taken[name] = texts[group["codes"][wanted]][place]
        return taken
