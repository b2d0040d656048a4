"""Reads FASTA, as text or gzipped: strictly, one sequence at a time."""

import gzip
import os
import zlib
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

from xtrimogene.errors import FileFormatError

GZIP = b"\x1f\x8b"


def read_fasta(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """Yield the name, which is the first word after ``>``, and the sequence of each record.

    Letters are not checked: that is the tokenizer's.

    Raises
    ------
    FileFormatError
        No such file, no FASTA, a record without a name or without letters, or a damaged file.
    """
    file = Path(path)
    try:
        with _open(file) as stream:
            yield from _records(stream, file)
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{file} is no text ({error.reason}); give a FASTA, gzipped or not.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileFormatError(f"{file} is damaged ({error}); copy or download it again.") from None
    except OSError as error:
        raise FileFormatError(f"{file} cannot be read ({error.strerror or error}); check its name.") from None


def _open(file: Path) -> TextIOWrapper:
    with file.open("rb") as stream:
        zipped = stream.read(2) == GZIP
    return gzip.open(file, "rt", encoding="utf-8-sig") if zipped else file.open(encoding="utf-8-sig")


def _records(stream: TextIOWrapper, file: Path) -> Iterator[tuple[str, str]]:
    name, begun, parts = "", 0, list[str]()
    for number, line in enumerate(stream, 1):
        text = line.strip()
        if text.startswith(">"):
            if begun:
                yield name, _joined(parts, name, file, begun)
            words = text[1:].split(None, 1)
            if not words:
                raise FileFormatError(f"{file}, line {number}: a record has no name; write one after its '>'.")
            name, begun, parts = words[0], number, []
        elif text:
            if not begun:
                raise FileFormatError(
                    f"{file}, line {number}: a FASTA begins with '>' and a name, not with {text[:20]!r}; "
                    "give a FASTA file."
                )
            parts.append(text)
    if not begun:
        raise FileFormatError(f"{file} holds no record; a FASTA with at least one sequence is needed.")
    yield name, _joined(parts, name, file, begun)


def _joined(parts: list[str], name: str, file: Path, line: int) -> str:
    if not parts:
        raise FileFormatError(f"{file}, line {line}: {name!r} has no letters; remove the record or complete the file.")
    return "".join(parts)
