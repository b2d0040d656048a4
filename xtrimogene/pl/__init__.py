"""Plots: they read cells, or laws of scaling, and draw; nothing is written into what they read."""

from xtrimogene.pl.annotation import calibration, confusion, markers
from xtrimogene.pl.embedding import embedding, umap_coordinates
from xtrimogene.pl.protein import isoflop, scaling_law
from xtrimogene.pl.reference_map import reference_map

__all__ = [
    "calibration",
    "confusion",
    "embedding",
    "isoflop",
    "markers",
    "reference_map",
    "scaling_law",
    "umap_coordinates",
]
