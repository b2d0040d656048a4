"""What is learned from a sequence: what is shown, and what is asked for."""
