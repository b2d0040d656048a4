"""A vector for each protein of a FASTA."""
