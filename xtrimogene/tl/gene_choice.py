"""Which genes of some cells are looked at."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import GeneMatchError
from xtrimogene.evaluation.baselines import highly_variable_genes, log_normalize
from xtrimogene.tl.grouped_counts import GroupedCounts

NUM_GENES, LEAST_CELLS = 2000, 5  # a gene that fewer cells express varies by chance


def choose_genes(
    names: Sequence[str] | None,
    vocabulary: GeneVocabulary,
    cells: GroupedCounts,
    factors: Int64[np.ndarray, " T"] | None,
) -> Int64[np.ndarray, " A"]:
    """Return the places of these genes, or of the most variable ones, and of the factors, ascending.

    Raises
    ------
    GeneMatchError
        A name is none of the model's; or fewer than two genes are left.
    """
    if names is not None:
        chosen = vocabulary.places(names)
    else:
        values = cells.counts if cells.normalized else log_normalize(cells.counts)
        counted = np.bincount(cells.counts.indices, minlength=len(vocabulary))
        often = np.flatnonzero(counted >= LEAST_CELLS)
        chosen = often[highly_variable_genes(values[:, often], NUM_GENES)]
    asked = np.unique(chosen if factors is None else np.concatenate([chosen, factors]))
    if len(asked) < 2:
        raise GeneMatchError(f"{len(asked)} gene has no edge; give at least two different ones.")
    return asked


def known_factors(names: Sequence[str], vocabulary: GeneVocabulary, cells: GroupedCounts) -> Int64[np.ndarray, " T"]:
    """Return the places of those of the names that have a count in the cells, ascending.

    Raises
    ------
    GeneMatchError
        None has.
    """
    if isinstance(names, str) or not len(names):
        raise GeneMatchError(f"transcription_factors={names!r}: a list of symbols or Ensembl ids is needed.")
    places = vocabulary.match({"genes": list(names)}).target
    counted = np.asarray(cells.counts.sum(axis=0)).ravel() > 0
    known = np.unique(places[places >= 0])
    kept = known[counted[known]]
    if not len(kept):
        raise GeneMatchError(
            f"none of the {len(names):,} transcription factors has a count in these cells ({len(known):,} are genes of "
            "the model); give symbols or Ensembl ids of expressed ones."
        )
    return kept
