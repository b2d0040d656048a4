"""What a model makes of cells whose counts are edited: one gene, or a few, knocked out or over-expressed."""
