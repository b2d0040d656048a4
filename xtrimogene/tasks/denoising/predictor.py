"""What a model says of each gene when it is told how deeply the cell is to be read.

Letters: B cells; G genes of the model; M genes asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64
from scipy.sparse import csr_matrix

from xtrimogene.errors import ConfigError
from xtrimogene.inference import Inference

Through = Literal["decoder", "latent"]
Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predictor:
    """A model that is asked for some genes at ``target_depth`` counts a cell: its T token is the logarithm.

    Parameters
    ----------
    genes
        Places of the genes that were measured, in order.

    Raises
    ------
    ConfigError
        No depth that a cell has.
    """

    inference: Inference
    genes: Int64[np.ndarray, " M"]
    target_depth: float
    through: Through = "latent"

    def __post_init__(self) -> None:
        if not 1 < self.target_depth <= 1e12:
            raise ConfigError(
                f"target_depth={self.target_depth:g} counts a cell are none that a cell has; give 20000, say."
            )

    @property
    def read_depth(self) -> str:
        """The depth that the model is told, in the notation of `xtrimogene.data.read_depth`."""
        return f"t{np.log10(self.target_depth):.6f}"

    def predict(self, counts: csr_matrix, *, progress: Progress | None = None) -> Float32[np.ndarray, "B M"]:
        """Return the model's values as they are, log1p of counts per 10,000; NaN for a cell that cannot be read."""
        if self.through == "latent":
            return self.inference.expression_from_latent(
                counts, genes=self.genes, read_depth=self.read_depth, progress=progress
            )
        measured = np.zeros(counts.shape[1], dtype=bool)
        measured[self.genes] = True
        return self.inference.expression(
            counts, genes=self.genes, measured=measured, read_depth=self.read_depth, progress=progress
        )
