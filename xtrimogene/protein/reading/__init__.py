"""Proteins through a trained model, in windows and batches."""
