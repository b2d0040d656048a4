"""Reads sequences from FASTA or parquet, told apart by their content."""

import os
from collections.abc import Iterator
from pathlib import Path

from xtrimogene.errors import FileFormatError, MissingExtraError
from xtrimogene.protein.sequences.fasta import read_fasta

PARQUET = b"PAR1"


def read_sequences(path: str | os.PathLike[str], column: str = "sequence") -> Iterator[tuple[str, str]]:
    """Yield a name, in parquet the row's number, and the sequence.

    Parameters
    ----------
    column
        Of a parquet, where the sequences are.

    Raises
    ------
    FileFormatError
        No such file, neither FASTA nor parquet, a column that is missing or no text, or a row without a sequence.
    MissingExtraError
        A parquet, without the package that reads it.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            is_parquet = stream.read(len(PARQUET)) == PARQUET
    except OSError as error:
        raise FileFormatError(f"{file} cannot be read ({error.strerror or error}); check its name.") from None
    yield from _read_parquet(file, column) if is_parquet else read_fasta(file)


def _read_parquet(file: Path, column: str) -> Iterator[tuple[str, str]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(f"{file} is a parquet: pip install 'xtrimogene[parquet]', or give a FASTA.") from None
    try:
        table = pyarrow.parquet.ParquetFile(file)
        names = table.schema_arrow.names
        if column not in names:
            raise FileFormatError(f"{file} has no column {column!r}; it has {', '.join(names)}: name one as column.")
        row = 0
        for batch in table.iter_batches(columns=[column]):
            for sequence in batch.column(0).to_pylist():
                row += 1
                if not isinstance(sequence, str) or not sequence:
                    raise FileFormatError(
                        f"{file}, row {row} of {column!r}: a sequence is needed, got {sequence!r}; remove the row."
                    )
                yield f"row {row}", sequence
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise FileFormatError(f"{file} is a damaged parquet ({reason}); copy or download it again.") from None
