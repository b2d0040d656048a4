"""Protein language models: what to train with the budget at hand, and the tools to train it."""
