"""Tools: they read an AnnData, compute, and write what they found into it."""

from xtrimogene.tl.annotation import annotate, fit_annotator
from xtrimogene.tl.embedding import embed

__all__ = ["annotate", "embed", "fit_annotator"]
