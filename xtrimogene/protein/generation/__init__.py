"""New proteins, from a prefix or in a gap."""
