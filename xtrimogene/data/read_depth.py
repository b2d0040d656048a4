"""Read depth: the T and S a cell is read with, and the thinning of counts that teaches a model what they mean.

T = log10(total wanted), S = log10(total seen). The released sampler is not public; ours leaves a cell unchanged with a
given probability and else keeps each molecule with a rate drawn from a Beta distribution.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy import sparse
from torch import Tensor

from xtrimogene.config import ReadDepthConfig
from xtrimogene.errors import ConfigError, CountsError

MAX_TARGET = 12.0
_PATTERN = re.compile(r"([tfa])(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class ReadDepth:
    """``t``: T = amount; ``f``: T = log10(total x amount); ``a``: T = log10(total) + amount. S = log10(total)."""

    kind: Literal["t", "f", "a"]
    amount: float

    @classmethod
    def parse(cls, text: str) -> "ReadDepth":
        """Read the released code's notation: "t4", "f1", "a0.5".

        Raises
        ------
        ConfigError
            Another letter, no number, or an amount of zero for t or f.
        """
        found = _PATTERN.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"read_depth={text!r} is not one of t, f, a followed by a number, such as 't4', 'f1', 'a0.5'."
            )
        kind, amount = found.group(1), float(found.group(2))
        if kind != "a" and amount == 0:
            raise ConfigError(f"read_depth={text!r}: the number after {kind!r} must be positive.")
        return cls(kind, amount)  # type: ignore[arg-type]

    def tokens(self, totals: Float32[Tensor, "B"]) -> tuple[Float32[Tensor, "B"], Float32[Tensor, "B"]]:
        """Return T and S of cells with these totals.

        Raises
        ------
        CountsError
            A total of 1 or less: its logarithm is not positive and the model cannot read it.
        ConfigError
            A T that no cell has: 0 or less, or above 12.
        """
        if bool((totals <= 1).any()):
            row = int((totals <= 1).nonzero()[0])
            raise CountsError(
                f"Cell {row} has {float(totals[row]):g} counts in the model's genes; more than 1 is needed. "
                "Leave such cells out."
            )
        source = totals.log10()
        if self.kind == "t":
            target = torch.full_like(source, self.amount)
        else:
            target = source + (math.log10(self.amount) if self.kind == "f" else self.amount)
        if bool(((target <= 0) | (target > MAX_TARGET)).any()):
            wrong = target[(target <= 0) | (target > MAX_TARGET)][0]
            raise ConfigError(
                f"read_depth='{self.kind}{self.amount:g}' asks for T = {float(wrong):g}, the log10 of a cell's counts; "
                f"it has to lie above 0 and at most at {MAX_TARGET:g}. Choose another depth, such as 'f1'."
            )
        return target, source


def downsample_counts(
    counts: sparse.csr_matrix, config: ReadDepthConfig, generator: np.random.Generator
) -> sparse.csr_matrix:
    """Thin each cell's molecules binomially at a rate of its own; a cell never loses its last molecule.

    With ``gene_spread`` a thinned cell also reads each gene at a rate of its own, min(1, exp(spread x normal)): as one
    chemistry catches a gene that another misses.

    Parameters
    ----------
    counts
        Cells x genes, integral counts.
    """
    num_cells = counts.shape[0]
    rates = generator.beta(config.beta_a, config.beta_b, size=num_cells)
    unchanged = generator.random(num_cells) < config.unchanged_probability
    rates[unchanged] = 1.0
    lengths = np.diff(counts.indptr)
    rates_of_genes = np.repeat(rates, lengths)
    if config.gene_spread > 0:
        capture = np.minimum(1.0, np.exp(config.gene_spread * generator.standard_normal(len(rates_of_genes))))
        rates_of_genes *= np.where(np.repeat(unchanged, lengths), 1.0, capture)
    return thin_counts(counts, rates_of_genes, generator)


def thin_counts(
    counts: sparse.csr_matrix, rates: float | Float[np.ndarray, "N"], generator: np.random.Generator
) -> sparse.csr_matrix:
    """Keep each molecule with a probability, one for all counts or one a count; a cell never loses its last molecule.

    Parameters
    ----------
    counts
        Cells x genes, integral counts; N of them are stored.
    """
    num_cells, lengths = counts.shape[0], np.diff(counts.indptr)
    kept = generator.binomial(counts.data.astype(np.int64), rates).astype(np.float32)
    totals = np.bincount(np.repeat(np.arange(num_cells), lengths), weights=kept, minlength=num_cells)
    for cell in np.flatnonzero((totals == 0) & (lengths > 0)):
        kept[counts.indptr[cell] + generator.integers(lengths[cell])] = 1.0
    thinned = sparse.csr_matrix((kept, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)
    thinned.eliminate_zeros()
    return thinned
