"""Tools: they read an AnnData, compute, and write what they found into it."""

from xtrimogene.tasks.cell_search.cell_index import open_index
from xtrimogene.tl.annotation import annotate, fit_annotator
from xtrimogene.tl.cell_search import build_index, search
from xtrimogene.tl.denoising import denoise
from xtrimogene.tl.embedding import embed
from xtrimogene.tl.gene_network import gene_modules, gene_network
from xtrimogene.tl.in_silico import in_silico
from xtrimogene.tl.perturbation import fit_perturbation, perturb
from xtrimogene.tl.reference_map import map_to_reference
from xtrimogene.tl.response import fit_response, response
from xtrimogene.tl.synergy import fit_synergy, synergy

__all__ = [
    "annotate",
    "build_index",
    "denoise",
    "embed",
    "fit_annotator",
    "fit_perturbation",
    "fit_response",
    "fit_synergy",
    "gene_modules",
    "gene_network",
    "in_silico",
    "map_to_reference",
    "open_index",
    "perturb",
    "response",
    "search",
    "synergy",
]
