"""What a cell would show if more of its molecules were read: those that were, and what is expected of the others.

The prior of a gene's share is what the model predicts, calibrated on these cells (`calibration`), and the cell's own
molecules weigh against it (`shrinkage`) with a strength that is chosen by molecular cross-validation (`molecules`), so
without labels. Of a cell read to N molecules, n of which were seen, the expectation is count + (N - n) x share: at
N = n the counts themselves, however good the model.
Letters: B cells; G genes of the model; M genes measured.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from scipy.sparse import csr_matrix

from xtrimogene.errors import ConfigError, CountsError
from xtrimogene.inference import Inference, readable_cells
from xtrimogene.tasks.denoising.calibration import Calibration
from xtrimogene.tasks.denoising.molecules import split_molecules, totals_of
from xtrimogene.tasks.denoising.shrinkage import choose_strength, shrink

Through = Literal["decoder", "latent"]
Progress = Callable[[int], None]
SEEN = 0.5  # of the molecules, where they are cross-validated
LEAST_CELLS = 20


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Denoiser:
    """A model calibrated on some cells; what it says of a cell depends on that cell and the calibration alone."""

    inference: Inference
    genes: Int64[np.ndarray, " M"]
    target_depth: float
    through: Through
    calibration: Calibration
    strength: float

    @classmethod
    def fit(
        cls,
        inference: Inference,
        counts: csr_matrix,
        *,
        measured: Bool[np.ndarray, " G"],
        target_depth: float,
        others: Float[np.ndarray, " G"] | None = None,
        through: Through = "latent",
        seed: int = 0,
        progress: Progress | None = None,
    ) -> "Denoiser":
        """Calibrate on cells, of which half of the molecules are shown to the model and the other half scores it.

        Parameters
        ----------
        counts
            Cells x the model's genes, integral counts; about a thousand cells will do.
        measured
            Which of the model's genes the data has.
        others
            Counts of each gene in further cells of the same data: the means of rare genes are read off them too.
        target_depth
            Counts a cell that the model is told to predict: its T token is the logarithm.

        Raises
        ------
        ConfigError
            No depth that a cell has.
        CountsError
            Fewer than 20 cells with counts.
        """
        if not 1 < target_depth <= 1e12:
            raise ConfigError(f"target_depth={target_depth:g} counts a cell are none that a cell has; give 20000, say.")
        counts = counts[readable_cells(counts)]
        seen, held_out = split_molecules(counts, SEEN, np.random.default_rng(seed))
        both = readable_cells(seen)
        if both.sum() < LEAST_CELLS:
            raise CountsError(
                f"{int(both.sum())} cells have counts enough to be denoised; at least {LEAST_CELLS} are needed, as "
                "the model is calibrated on them."
            )
        genes = np.flatnonzero(measured)
        unset = np.zeros(len(genes), dtype=np.float32)
        raw = cls(
            inference=inference,
            genes=genes,
            target_depth=target_depth,
            through=through,
            calibration=Calibration(offset=unset, slope=unset, center=unset),
            strength=1.0,
        )
        counts, seen, held_out = counts[both], seen[both], held_out[both]
        of_half, of_whole = raw.predict(seen, progress=progress), raw.predict(counts, progress=progress)
        counts, seen, held_out = counts[:, genes], seen[:, genes], held_out[:, genes]
        further = None if others is None else others[genes]
        slopes = Calibration.fit(of_half, held_out)
        prior = slopes.to_mean(of_half, seen, further).shares(of_half)
        return replace(
            raw, calibration=slopes.to_mean(of_whole, counts, further), strength=choose_strength(seen, held_out, prior)
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

    def shares(self, counts: csr_matrix, *, progress: Progress | None = None) -> Float32[np.ndarray, "B M"]:
        """Return what each measured gene is expected to have of a cell's molecules; a cell's add up to 1."""
        prior = self.calibration.shares(self.predict(counts, progress=progress))
        return shrink(counts[:, self.genes], prior, self.strength)

    def expected_counts(self, counts: csr_matrix, *, progress: Progress | None = None) -> Float32[np.ndarray, "B M"]:
        """Return each measured gene's expected count at the target depth: never below what was counted.

        Raises
        ------
        ConfigError
            A cell has more counts than that.
        """
        missing = self.target_depth - totals_of(counts)
        if (missing < 0).any():
            row = int(missing.argmin())
            raise ConfigError(
                f"target_depth={self.target_depth:,.0f} is less than the {self.target_depth - missing[row]:,.0f} "
                f"counts that cell {row} has; give at least as many as the deepest cell has."
            )
        shares = self.shares(counts, progress=progress)
        return counts[:, self.genes].toarray() + missing[:, None].astype(np.float32) * shares
