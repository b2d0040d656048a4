"""From a budget to a model and its training."""
