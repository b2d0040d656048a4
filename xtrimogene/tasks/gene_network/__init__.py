"""Networks of genes: which are tied, in which cells, and which modules they form."""
