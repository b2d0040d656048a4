"""What a model says of variants."""
