"""Plots: they read an AnnData and draw; nothing is written into it."""

from xtrimogene.pl.annotation import calibration, confusion, markers
from xtrimogene.pl.embedding import embedding, umap_coordinates
from xtrimogene.pl.reference_map import reference_map

__all__ = ["calibration", "confusion", "embedding", "markers", "reference_map", "umap_coordinates"]
