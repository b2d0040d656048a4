"""Pre-training of protein models: the only part that needs Lightning."""
