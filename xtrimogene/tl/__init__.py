"""Tools: they read an AnnData, compute, and write what they found into it."""

from xtrimogene.tasks.cell_search.cell_index import open_index
from xtrimogene.tl.annotation import annotate, fit_annotator
from xtrimogene.tl.cell_search import build_index, search
from xtrimogene.tl.embedding import embed
from xtrimogene.tl.reference_map import map_to_reference

__all__ = ["annotate", "build_index", "embed", "fit_annotator", "map_to_reference", "open_index", "search"]
