"""Among many files the reader must know which one a message is about."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from xtrimogene.errors import GeneMatchError


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Put the file's name before every warning given inside, and before what its genes are refused for."""
    with warnings.catch_warnings(record=True) as caught:
        try:
            yield
        except GeneMatchError as error:
            raise GeneMatchError(f"{file}: {error}") from None
    for warning in caught:
        warnings.warn(f"{file}: {warning.message}", warning.category, stacklevel=3)
