"""Rows of length 1."""

import numpy as np
from jaxtyping import Float


def unit_rows(vectors: Float[np.ndarray, "*rows D"], *, center: bool = False) -> Float[np.ndarray, "*rows D"]:
    """Bring each row to length 1, counted from the mean row if asked for; zeros stay, and so does the type."""
    moved = vectors - vectors.mean(axis=-2, keepdims=True) if center else vectors
    length = np.linalg.norm(moved, axis=-1, keepdims=True)
    return np.divide(moved, length, out=np.zeros_like(moved), where=length > 0)
