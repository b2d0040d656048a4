"""Protein language models: tokens, objectives, the network, training, and what they cost."""
