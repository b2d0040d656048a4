"""Molecular cross-validation (Batson, Royer & Webber 2019): some molecules are seen, the others score what is said.

Thinned binomially, the two parts of a cell are independent given what the cell holds, so no truth is needed.
Letters: B cells; G genes.
"""

import numpy as np
from jaxtyping import Float, Float64
from scipy.sparse import csr_matrix

from xtrimogene.data.read_depth import thin_counts
from xtrimogene.errors import ConfigError

PER = 1e4  # values are log1p of counts per so many
LEAST_TRUST = 0.01  # of the gene mean: a share of zero would make one molecule infinitely surprising


def split_molecules(counts: csr_matrix, rate: float, generator: np.random.Generator) -> tuple[csr_matrix, csr_matrix]:
    """Return the molecules seen, each with probability ``rate``, and the others; both cells x genes, integral.

    Raises
    ------
    ConfigError
        A rate that leaves one part empty.
    """
    if not 0 < rate < 1:
        raise ConfigError(f"rate={rate:g} of molecules has to lie between 0 and 1, so that both parts hold some.")
    seen = thin_counts(counts, rate, generator)
    held_out = csr_matrix(counts - seen)
    held_out.eliminate_zeros()
    return seen, held_out


def totals_of(counts: csr_matrix) -> Float64[np.ndarray, " B"]:
    return np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()


def log_loss(held_out: csr_matrix, shares: Float[np.ndarray, "B G"]) -> Float64[np.ndarray, " B"]:
    """Return how surprising the molecules held out of each cell are: nats a molecule, NaN where there are none.

    The multinomial log-likelihood a molecule with the sign changed. Half of the Poisson deviance differs from it by a
    constant of the data, once what is expected of a cell is scaled to the molecules held out.

    Parameters
    ----------
    shares
        What each gene is said to have of a cell's molecules; positive where a molecule is, and scaled to add up to 1.
    """
    entries = held_out.tocoo()
    surprise = np.log(shares.sum(axis=1, dtype=np.float64))[entries.row] - np.log(shares[entries.row, entries.col])
    total = totals_of(held_out)
    sums = np.bincount(entries.row, weights=entries.data * surprise, minlength=held_out.shape[0])
    return np.divide(sums, total, out=np.full(len(total), np.nan), where=total > 0)


def squared_error(held_out: csr_matrix, shares: Float[np.ndarray, "B G"]) -> Float64[np.ndarray, " B"]:
    """Return each cell's mean squared error over genes, of log1p of counts per 10,000 of the molecules held out."""
    total = totals_of(held_out)[:, None]
    found = np.log1p(PER * np.divide(held_out.toarray(), total, out=np.zeros(held_out.shape), where=total > 0))
    told = np.log1p(PER * shares / shares.sum(axis=1, keepdims=True))
    return np.where(total[:, 0] > 0, ((found - told) ** 2).mean(axis=1), np.nan)


def with_some_mean(shares: Float[np.ndarray, "B G"], mean: Float[np.ndarray, " G"]) -> Float64[np.ndarray, "B G"]:
    """Scale each cell to 1 and mix in 1 % of the gene mean; a cell without any is the mean."""
    total = shares.sum(axis=1, keepdims=True, dtype=np.float64)
    own = np.divide(shares, total, out=np.repeat(mean[None].astype(np.float64), len(shares), axis=0), where=total > 0)
    return (1 - LEAST_TRUST) * own + LEAST_TRUST * mean
