"""Labels that a caller names: those that may be given, and those described by marker genes."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import ConfigError, GeneMatchError
from xtrimogene.tl.answer_columns import SEPARATOR, UNKNOWN


def read_candidates(candidates: Iterable[str] | None) -> list[str] | None:
    """Return the labels as a list; an array, an index or a column of them will do.

    Raises
    ------
    ConfigError
        It is one text.
    """
    if isinstance(candidates, str):
        raise ConfigError(f"candidates={candidates!r}: a list of labels is needed, such as [{candidates!r}].")
    return None if candidates is None else [str(name) for name in candidates]


def read_markers(
    markers: Mapping[str, Sequence[str]] | None, genes: GeneVocabulary
) -> dict[str, Int64[np.ndarray, " m"]]:
    """Return where the marker genes of each label are, each once.

    Raises
    ------
    ConfigError
        They are not given by label, or a label cannot be told from others, or from none.
    GeneMatchError
        A marker is no gene of the model's, or a label has none.
    """
    if not isinstance(markers or {}, Mapping):
        raise ConfigError(f"markers={markers!r}: genes by label are needed, such as {{'Platelet': ['PPBP', 'PF4']}}.")
    described = {}
    for name, listed in (markers or {}).items():
        if not isinstance(name, str) or name.strip() in ("", "nan", UNKNOWN) or SEPARATOR in name:
            raise ConfigError(
                f"markers= describes {name!r}: a text is needed that is not {UNKNOWN!r} and holds no {SEPARATOR!r}."
            )
        try:
            described[name] = np.unique(genes.places(listed))
        except GeneMatchError as error:
            raise GeneMatchError(f"markers of {name!r}: {error}") from None
    return described
