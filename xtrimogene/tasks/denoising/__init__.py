"""What a cell would show if it were read more deeply, and how well that is told."""
