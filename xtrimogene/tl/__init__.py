"""Tools: they read an AnnData, compute, and write what they found into it."""

from xtrimogene.tl.annotation import annotate
from xtrimogene.tl.embedding import embed

__all__ = ["annotate", "embed"]
