"""Turn what a model predicts of a gene into a share of molecules that is right in the cells at hand.

A model's values are log1p of counts per 10,000 of a training in which zeros and non-zeros weigh alike, on other
platforms. So each gene gets an offset and a slope, by Poisson regression of molecules that the model did not see:
log of the share = offset + slope x (value - center). Slopes are drawn towards one slope of all genes.
Letters: B cells; G genes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64
from scipy.sparse import csr_matrix

from xtrimogene.tasks.denoising.molecules import PER, totals_of

SHRINKAGE = 10.0  # pull of the common slope: so much information (molecules x variance of the value)
NUM_STEPS = 6  # of Newton: the objective is convex, and the common slope is near
GENES_AT_ONCE = 1_000
LARGEST = 20.0  # of a linear predictor; e^20 molecules are none that a cell has


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Calibration:
    """What makes shares of a model's values; a gene without slope has its mean in every cell."""

    offset: Float32[np.ndarray, " G"]
    slope: Float32[np.ndarray, " G"]
    center: Float32[np.ndarray, " G"]

    @classmethod
    def fit(cls, values: Float32[np.ndarray, "B G"], held_out: csr_matrix) -> "Calibration":
        """Fit on molecules that the model did not see when it made ``values``."""
        totals, center = totals_of(held_out), values.mean(axis=0)
        found = np.asarray(held_out.sum(axis=0), dtype=np.float64).ravel()
        along = np.asarray(held_out.multiply(values - center).sum(axis=0)).ravel()  # sum of molecules x value
        common = 1.0
        for _ in range(NUM_STEPS):
            score, information = np.zeros(2)
            for genes in _chunks(len(center)):
                moments = _moments(values[:, genes] - center[genes], totals, np.full(1, common))
                score += (along[genes] - found[genes] * moments[1] / moments[0]).sum()
                information += (found[genes] * (moments[2] / moments[0] - (moments[1] / moments[0]) ** 2)).sum()
            common += float(np.clip(score / max(information, 1e-9), -0.5, 0.5))
        slope = np.full(len(center), common)
        for genes in _chunks(len(center)):
            for _ in range(NUM_STEPS):
                moments = _moments(values[:, genes] - center[genes], totals, slope[genes])
                mean = moments[1] / moments[0]
                score = along[genes] - found[genes] * mean - SHRINKAGE * (slope[genes] - common)
                information = found[genes] * (moments[2] / moments[0] - mean**2) + SHRINKAGE
                slope[genes] += np.clip(score / information, -0.5, 0.5)
        unset = np.zeros(len(center), dtype=np.float32)
        return cls(offset=unset, slope=slope.astype(np.float32), center=center)

    def to_mean(self, values: Float32[np.ndarray, "B G"], counts: csr_matrix) -> "Calibration":
        """Set centers and offsets so that each gene's expected molecules are those counted in these cells.

        A gene that was hardly seen gets what the model itself expects: one molecule is added to what was counted and
        to what the model expects.
        """
        totals, center = totals_of(counts), values.mean(axis=0)
        found = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
        model, spread = np.empty(len(center)), np.empty(len(center))
        whole = np.zeros(len(values))
        for genes in _chunks(len(center)):
            whole += _shares(values[:, genes]).sum(axis=1)
        for genes in _chunks(len(center)):
            model[genes] = (totals / whole) @ _shares(values[:, genes])
            spread[genes] = _moments(values[:, genes] - center[genes], totals, self.slope[genes])[0]
        expected = model * (found + 1) / (model + 1)
        offset = np.log(expected) - np.log(spread)
        return Calibration(offset=offset.astype(np.float32), slope=self.slope, center=center)

    def shares(self, values: Float32[np.ndarray, "B G"]) -> Float32[np.ndarray, "B G"]:
        """Return what each gene is expected to have of a cell's molecules; a cell's add up to 1."""
        predictor = np.minimum(self.offset + self.slope * (values - self.center), np.float32(LARGEST))
        shares = np.exp(predictor)
        return shares / shares.sum(axis=1, keepdims=True)


def _chunks(num_genes: int) -> list[slice]:
    return [slice(start, min(start + GENES_AT_ONCE, num_genes)) for start in range(0, num_genes, GENES_AT_ONCE)]


def _moments(
    values: Float[np.ndarray, "B g"], totals: Float[np.ndarray, " B"], slope: Float[np.ndarray, "_"]
) -> Float64[np.ndarray, "3 g"]:
    """Sum, over cells, molecules expected without an offset x the value to the power of 0, 1, 2."""
    weights = totals[:, None] * np.exp(np.minimum(slope * values, LARGEST))
    first = weights * values
    return np.stack([weights.sum(axis=0), first.sum(axis=0), (first * values).sum(axis=0)])


def _shares(values: Float[np.ndarray, "B g"]) -> Float[np.ndarray, "B g"]:
    return np.expm1(np.maximum(values, 1e-3)) / PER
