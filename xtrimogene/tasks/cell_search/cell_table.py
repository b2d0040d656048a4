"""What is known of the cells of an index: their names, and columns of text such as label, donor and study.

An HDF5 file of one group a column: ``categories`` (text) and ``codes`` (a number into them for each cell, -1 for none).
Rows and columns are read as they are asked for, so ten million cells take no memory.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import h5py
import numpy as np
from jaxtyping import Bool, Int, Int64, Shaped

from xtrimogene.errors import ConfigError, FieldError

NAMES = "names"
TEXT = h5py.string_dtype()
SHOWN = 8


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextColumn:
    """One text of few for each cell; the code -1 is none."""

    categories: tuple[str, ...]
    codes: Int[np.ndarray, " N"]


class CellTable:
    """The file at ``path``, which stays open, so that what is read is of one file; and its columns."""

    def __init__(self, path: Path) -> None:
        self.file = h5py.File(path, "r")
        self.columns = tuple(str(name) for name in self.file.attrs["columns"])

    def __len__(self) -> int:
        return int(self.file[NAMES].shape[0])

    def allowed(self, where: Mapping[str, object]) -> Bool[np.ndarray, " N"]:
        """Say which cells have, in each of these columns, one of these values.

        Raises
        ------
        FieldError
            No such column.
        ConfigError
            No value is asked for, or one that no cell has.
        """
        allowed = np.ones(len(self), dtype=bool)
        for name, wanted in where.items():
            several = isinstance(wanted, Collection) and not isinstance(wanted, str)
            column = self.column(name)
            values = {_text(value, column) for value in (cast(Collection[object], wanted) if several else [wanted])}
            missing = sorted(values - set(column.categories))
            if missing or not values:
                there = ", ".join(sorted(column.categories)[:SHOWN]) or "nothing"
                more = f" and {len(column.categories) - SHOWN:,} more" if len(column.categories) > SHOWN else ""
                asked = f"no cell of the index has {name}={missing[0]!r}" if missing else f"where[{name!r}] is empty"
                raise ConfigError(f"{asked}; there are {there}{more}.")
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
        group = self.file[f"column-{self.columns.index(name)}"]
        return TextColumn(categories=tuple(group["categories"].asstr()[:]), codes=group["codes"][:])

    def take(
        self, rows: Int64[np.ndarray, " R"]
    ) -> tuple[Shaped[np.ndarray, " R"], dict[str, Shaped[np.ndarray, " R"]]]:
        """Return names, and all columns, of these rows, in their order; None where a cell has no value."""
        wanted, place = np.unique(rows, return_inverse=True)
        texts = {}
        for number, name in enumerate(self.columns):
            group = self.file[f"column-{number}"]
            known = np.array([*group["categories"].asstr()[:], None], dtype=object)  # -1 is the last
            texts[name] = known[group["codes"][wanted]][place]
        return self.file[NAMES].asstr()[wanted][place], texts


class CellTableWriter:
    """Writes the file as parts of it come; a column that a part lacks is -1 there. Codes wait in memory."""

    def __init__(self, path: Path) -> None:
        self.file = h5py.File(path, "w")
        self.names = self.file.create_dataset(NAMES, (0,), maxshape=(None,), chunks=(8192,), dtype=TEXT)
        self.numbers: dict[str, dict[str, int]] = {}  # of each column, its categories
        self.codes: dict[str, list[Int[np.ndarray, " n"]]] = {}

    def __enter__(self) -> "CellTableWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write_columns()
        self.file.close()

    def append(self, names: Shaped[np.ndarray, " n"], columns: Mapping[str, TextColumn]) -> None:
        before = len(self.names)
        self.names.resize((before + len(names),))
        self.names[before:] = names.astype(object)
        for name, column in columns.items():
            if name not in self.numbers:
                self.numbers[name], self.codes[name] = {}, [_none(before)]
            known = self.numbers[name]
            of_own = [known.setdefault(category, len(known)) for category in column.categories]
            self.codes[name].append(np.array([*of_own, -1], dtype=np.int32)[column.codes])
        for name in self.numbers.keys() - columns.keys():
            self.codes[name].append(_none(len(names)))

    def _write_columns(self) -> None:
        self.file.attrs.create("columns", list(self.numbers), dtype=TEXT)
        for number, (name, known) in enumerate(self.numbers.items()):
            group = self.file.create_group(f"column-{number}")
            group.create_dataset("categories", data=list(known), dtype=TEXT)
            codes = np.concatenate(self.codes[name])
            group.create_dataset("codes", data=codes, chunks=True, compression="gzip", compression_opts=1)


def _none(number: int) -> Int[np.ndarray, " n"]:
    return np.full(number, -1, dtype=np.int32)


def _text(value: object, column: TextColumn) -> str:
    """Return a value as the column has it: whole numbers, which pandas calls decimal as some are missing, are whole."""
    whole = isinstance(value, float | np.floating) and value.is_integer() and str(value) not in column.categories
    return str(int(cast(float, value))) if whole else str(value)
