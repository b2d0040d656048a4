"""xtrimogene: single-cell foundation models of the xTrimoGene / scFoundation family."""
