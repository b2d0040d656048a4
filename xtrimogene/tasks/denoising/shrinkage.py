"""Weigh what is expected of a cell's genes against molecules.

A gene's share in a cell is gamma distributed about its prior mean with shape ``strength``, and its molecules are
Poisson: the posterior mean of the share is (count + strength) / (total + strength / prior), as in SAVER (Huang et al.,
2018). A cell with many molecules keeps its own counts.
Letters: B cells; G genes.
"""

import numpy as np
from jaxtyping import Float, Float32
from scipy.sparse import csr_matrix

from xtrimogene.tasks.denoising.molecules import log_loss

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)


def posterior(
    counts: Float32[np.ndarray, "B G"],
    total: Float32[np.ndarray, "B 1"],
    prior: Float32[np.ndarray, "B G"],
    strength: float | Float32[np.ndarray, " G"],
) -> Float32[np.ndarray, "B G"]:
    """Return the posterior mean of each gene's share, not scaled to add up to 1; ``total`` is that of all genes."""
    weight = np.float32(strength) if isinstance(strength, float) else strength
    return (counts + weight) / (total + weight / prior)


def shrink(
    counts: csr_matrix, prior: Float[np.ndarray, "B G"], strength: float | Float32[np.ndarray, " G"]
) -> Float32[np.ndarray, "B G"]:
    """Return the expected share of each gene; a cell's add up to 1.

    Parameters
    ----------
    prior
        Shares expected before the counts were looked at, positive.
    strength
        Of all genes, or of each.
    """
    own = counts.toarray().astype(np.float32)
    shares = posterior(own, own.sum(axis=1, keepdims=True), prior.astype(np.float32), strength)
    return shares / shares.sum(axis=1, keepdims=True)


def choose_strength(seen: csr_matrix, held_out: csr_matrix, prior: Float[np.ndarray, "B G"]) -> float:
    """Return the strength with which the molecules seen tell most of those held out (`molecules.log_loss`)."""
    losses = [float(np.nanmean(log_loss(held_out, shrink(seen, prior, strength)))) for strength in STRENGTHS]
    return STRENGTHS[int(np.argmin(losses))]
