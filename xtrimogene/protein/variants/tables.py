"""Variants and their wild type from files."""

import os
from pathlib import Path

import pandas as pd

from xtrimogene.config import require
from xtrimogene.errors import FileFormatError
from xtrimogene.protein.sequences.fasta import read_fasta

SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_wild_type(path: str | os.PathLike[str]) -> str:
    """Return the one protein of a FASTA.

    Raises
    ------
    FileFormatError
        No FASTA, or not one protein.
    """
    found = [sequence for _, sequence in read_fasta(path)]
    if len(found) != 1:
        raise FileFormatError(f"{os.fspath(path)} holds {len(found)} proteins; the wild type alone is needed.")
    return found[0]


def read_variants_table(path: str | os.PathLike[str], column: str) -> pd.DataFrame:
    """Return a table whose ``column`` holds variants; or a FASTA's names as "name" and its sequences as ``column``.

    A .csv or .tsv is a table, and every column of it text, as it stands in the file.

    Raises
    ------
    FileFormatError
        No such file, neither a table nor FASTA, rows longer than the header, an empty variant, or none at all.
    ConfigError
        The table has no such column.
    """
    file = Path(path)
    separator = SEPARATORS.get(file.suffix.lower())
    if separator is None:
        records = list(read_fasta(file))
        return pd.DataFrame({"name": [name for name, _ in records], column: [sequence for _, sequence in records]})
    try:
        table = pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise FileFormatError(f"No file {str(file)!r}; a CSV or a FASTA of variants is needed.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{file} is not {file.suffix[1:].upper()}: {error}.") from None
    require(column in table, f"there is no column {column!r}; the columns are {', '.join(map(str, table.columns))}.")
    if table.empty:
        raise FileFormatError(f"{file} holds no variant; a row for each is needed.")
    if not isinstance(table.index, pd.RangeIndex):
        raise FileFormatError(f"the rows of {file} have more fields than its header; give each column a name.")
    empty = table[column].fillna("").str.strip() == ""
    if empty.any():
        raise FileFormatError(f"line {int(empty.argmax()) + 2} of {file} has no {column}; give each row a variant.")
    return table
