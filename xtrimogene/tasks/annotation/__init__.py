"""Cell types from a labelled reference, with probabilities that hold and an answer for what is not in it."""
