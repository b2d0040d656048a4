"""Plots: they read cells, tables of results, or laws of scaling, and draw; nothing is written into what they read."""

from xtrimogene.pl.annotation import calibration, confusion, markers
from xtrimogene.pl.denoising import denoised
from xtrimogene.pl.embedding import embedding, umap_coordinates
from xtrimogene.pl.gene_network import enrichment, network
from xtrimogene.pl.in_silico import screen
from xtrimogene.pl.perturbation import perturbation
from xtrimogene.pl.protein import isoflop, scaling_law
from xtrimogene.pl.reference_map import reference_map
from xtrimogene.pl.synergy import synergy_matrix

__all__ = [
    "calibration",
    "confusion",
    "denoised",
    "embedding",
    "enrichment",
    "isoflop",
    "markers",
    "network",
    "perturbation",
    "reference_map",
    "scaling_law",
    "screen",
    "synergy_matrix",
    "umap_coordinates",
]
