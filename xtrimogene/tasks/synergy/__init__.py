"""What one drug, or two together, do to a cell line: graphs of drugs, our embedding of the line, one network."""
