"""What a cell would show if more of its molecules were read: those that were, and what is expected of the others.

The prior of a gene's share is what the model predicts (`predictor`), calibrated on these cells (`calibration`). The
molecules of neighbouring cells (`neighbors`) and the cell's own weigh against it (`blend`), with strengths chosen by
molecular cross-validation (`molecules`), so without labels. Of a cell read to N molecules, n of which were seen, the
expectation is count + (N - n) x share: at N = n the counts themselves, however good the model.
Letters: B cells; K further cells; G genes of the model; M genes measured.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64
from scipy.sparse import csr_matrix, vstack

from xtrimogene.errors import ConfigError, CountsError
from xtrimogene.inference import readable_cells
from xtrimogene.tasks.denoising.blend import Blend, choose_blend
from xtrimogene.tasks.denoising.calibration import Calibration
from xtrimogene.tasks.denoising.molecules import split_molecules, totals_of
from xtrimogene.tasks.denoising.neighbors import Neighbors
from xtrimogene.tasks.denoising.predictor import Predictor, Progress

SEEN = 0.75  # of the molecules, where they are cross-validated
LEAST_CELLS = 20
BLENDED_CELLS = 300  # choose how to blend: it is a matter of a few numbers


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Denoiser:
    """A model calibrated on some cells, which are kept; what it says of another cell depends on it and them alone."""

    predictor: Predictor
    calibration: Calibration
    blend: Blend
    neighbors: Neighbors
    walk: csr_matrix

    @classmethod
    def fit(
        cls,
        predictor: Predictor,
        counts: csr_matrix,
        *,
        around: csr_matrix | None = None,
        others: Float[np.ndarray, " G"] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> "Denoiser":
        """Calibrate on cells, of which half of the molecules are shown to the model and the other half scores it.

        Parameters
        ----------
        counts
            Cells x the model's genes, integral counts; about a thousand cells will do.
        around
            Further cells of the same data, K x G, in which neighbours are looked for too; the model does not read them.
        others
            Counts of each gene in all cells but ``counts``: the means of rare genes are read off them too.

        Raises
        ------
        CountsError
            Fewer than 20 cells with counts.
        """
        generator, genes = np.random.default_rng(seed), predictor.genes
        counts = counts[readable_cells(counts)]
        seen, held_out = split_molecules(counts, SEEN, generator)
        both = readable_cells(seen)
        if both.sum() < LEAST_CELLS:
            raise CountsError(
                f"{int(both.sum())} cells have counts enough to be denoised; at least {LEAST_CELLS} are needed, as "
                "the model is calibrated on them."
            )
        counts, seen, held_out = counts[both], seen[both], held_out[both]
        of_half, of_whole = (predictor.predict(part, progress=progress) for part in (seen, counts))
        further = None if others is None else others[genes]
        whole, half, held_out = counts[:, genes], seen[:, genes], held_out[:, genes]
        slopes = Calibration.fit(of_half, held_out)
        order = generator.permutation(len(of_half))
        some = np.sort(order[:BLENDED_CELLS])
        prior = _prior_of_half(of_half, half, held_out, further, order)[some]
        kept, half_kept = whole, half
        if around is not None:
            kept, half_kept = (vstack([own, more[:, genes]], format="csr") for own, more in (
                (whole, around), (half, split_molecules(around, SEEN, generator)[0])))  # fmt: skip
        blend = choose_blend(half[some], held_out[some], prior, _readable(half_kept, seed))
        neighbors = _readable(kept, seed)
        return cls(
            predictor=predictor,
            calibration=slopes.to_mean(of_whole, whole, further),
            blend=blend,
            neighbors=neighbors,
            walk=neighbors.step(neighbors.counts, blend.smoothing.num_neighbors),
        )

    def shares(self, counts: csr_matrix, *, progress: Progress | None = None) -> Float32[np.ndarray, "B M"]:
        """Return what each measured gene is expected to have of a cell's molecules; a cell's add up to 1."""
        prior = self.calibration.shares(self.predictor.predict(counts, progress=progress))
        own = counts[:, self.predictor.genes]
        weights = self.neighbors.reached(own, self.blend.smoothing, self.walk)
        return self.blend.shares(own, csr_matrix(weights @ self.neighbors.counts), prior)

    def expected_counts(self, counts: csr_matrix, *, progress: Progress | None = None) -> Float32[np.ndarray, "B M"]:
        """Return each measured gene's expected count at the target depth: never below what was counted.

        Raises
        ------
        ConfigError
            A cell has more counts than that.
        """
        depth = self.predictor.target_depth
        missing = depth - totals_of(counts)
        if (missing < 0).any():
            row = int(missing.argmin())
            raise ConfigError(
                f"target_depth={depth:,.0f} is less than the {depth - missing[row]:,.0f} counts that cell {row} has; "
                "give at least as many as the deepest cell has."
            )
        shares = self.shares(counts, progress=progress)
        return counts[:, self.predictor.genes].toarray() + missing[:, None].astype(np.float32) * shares


def _prior_of_half(
    values: Float32[np.ndarray, "B M"],
    seen: csr_matrix,
    held_out: csr_matrix,
    others: Float[np.ndarray, " M"] | None,
    order: Int64[np.ndarray, " B"],
) -> Float32[np.ndarray, "B M"]:
    """Return what is expected of each cell by a calibration on the other half of the cells.

    A calibration that knew a cell's held-out molecules would look better than it is, and be believed too much.
    """
    prior = np.empty_like(values)
    for cells in np.array_split(order, 2):
        rest = np.setdiff1d(order, cells)
        slopes = Calibration.fit(values[rest], held_out[rest])
        prior[cells] = slopes.to_mean(values, seen, others).shares(values[cells])
    return prior


def _readable(counts: csr_matrix, seed: int) -> Neighbors:
    return Neighbors.fit(csr_matrix(counts[readable_cells(counts)]), seed=seed)
