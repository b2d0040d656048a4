"""Vectors of proteins in a parquet: ``name``, ``length`` (residues) and ``vector`` (a list of float32), row by row.

What they were made of and how is the schema's metadata.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from xtrimogene.errors import MissingExtraError
from xtrimogene.long_work import whole_file
from xtrimogene.protein.embedding.embedding_file import read_vectors


def require_pyarrow(path: Path) -> None:
    """Refuse to begin what could not be written.

    Raises
    ------
    MissingExtraError
        The extra ``parquet`` is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise MissingExtraError(f"{path} is a parquet: pip install 'xtrimogene[parquet]', or write .h5.") from None


def join_as_parquet(path: Path, parts: Sequence[Path], attributes: Mapping[str, str | int]) -> None:
    """Write the proteins of all parts, one part in memory at a time."""
    import pyarrow
    import pyarrow.parquet

    dim = read_vectors(parts[0]).vectors.shape[1]
    schema = pyarrow.schema(
        {"name": pyarrow.string(), "length": pyarrow.int64(), "vector": pyarrow.list_(pyarrow.float32(), dim)},
        metadata={name: str(value) for name, value in attributes.items()},
    )
    with whole_file(path) as whole, pyarrow.parquet.ParquetWriter(whole, schema) as writer:
        for part in parts:
            proteins = read_vectors(part)
            vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(proteins.vectors.ravel()), dim)
            writer.write_table(pyarrow.table([proteins.names, proteins.lengths, vectors], schema=schema))
