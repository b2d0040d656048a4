"""Turn what a model predicts of a gene into a share of molecules that is right in the cells at hand.

A model's values are log1p of counts per 10,000 of a training in which zeros and non-zeros weigh alike, on other
platforms. So each gene gets an offset and a slope, by Poisson regression of molecules that the model did not see:
log of the share = offset + slope x (value - center). Slopes are drawn towards one slope of all genes, and no value
takes a share far from the gene's mean: a slope of few molecules could make a rare gene most of a cell.
Letters: B cells; G genes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64
from scipy.sparse import csr_matrix
from scipy.stats import nbinom

from xtrimogene.tasks.denoising.molecules import PER, totals_of

SHRINKAGE = 10.0  # pull of the common slope: so much information: molecules x variance of the value, scaled to 1
FARTHEST = 3.0  # from a gene's mean, in logs: e^3 is 20 times
RATIO_SHAPES = (0.03, 0.1, 0.3, 1.0, 3.0)
EVEN = 0.1  # of what the model expects of all genes is spread evenly: no gene is impossible
NUM_STEPS = 8  # of Newton; the objective is convex
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
        scale = max(
            float(np.sqrt(((values - center) ** 2).mean())), 1e-9
        )  # a slope starts at 0, whatever the values are
        along = np.asarray(held_out.multiply((values - center) / scale).sum(axis=0)).ravel()
        slope = np.zeros(len(center))
        for _ in range(NUM_STEPS):
            score, information = np.zeros(2)
            for genes in _chunks(len(center)):
                spread, mean, variance = _moments((values[:, genes] - center[genes]) / scale, totals, slope[genes])
                score += (along[genes] - found[genes] * mean).sum()
                information += (found[genes] * variance).sum()
            slope += float(np.clip(score / max(information, 1e-9), -1, 1))
        common = slope.copy()
        for genes in _chunks(len(center)):
            for _ in range(NUM_STEPS):
                spread, mean, variance = _moments((values[:, genes] - center[genes]) / scale, totals, slope[genes])
                score = along[genes] - found[genes] * mean - SHRINKAGE * (slope[genes] - common[genes])
                slope[genes] += np.clip(score / (found[genes] * variance + SHRINKAGE), -1, 1)
        slope /= scale
        unset = np.zeros(len(center), dtype=np.float32)
        return cls(offset=unset, slope=slope.astype(np.float32), center=center)

    def to_mean(
        self, values: Float32[np.ndarray, "B G"], counts: csr_matrix, others: Float[np.ndarray, " G"] | None = None
    ) -> "Calibration":
        """Set centers and offsets so that each gene's expected molecules are those counted in these cells.

        A gene that was hardly seen gets something of what the model itself expects: the ratio of molecules counted to
        those expected is gamma distributed about 1, with the shape that makes the counts most likely.

        Parameters
        ----------
        others
            Counts of each gene in further cells of the same data, of which no values are known.
        """
        totals, center = totals_of(counts), values.mean(axis=0)
        found = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
        model, spread = np.empty(len(center)), np.empty(len(center))
        whole = np.zeros(len(values))
        for genes in _chunks(len(center)):
            whole += _shares(values[:, genes]).sum(axis=1)
        for genes in _chunks(len(center)):
            model[genes] = (totals / whole) @ _shares(values[:, genes])
            reach = np.clip(self.slope[genes] * (values[:, genes] - center[genes]), -FARTHEST, FARTHEST)
            spread[genes] = totals @ np.exp(reach)
        here = max(found.sum(), 1.0)
        if others is not None:
            found = found + others
        more = max(found.sum() / here, 1.0)  # as many times the molecules
        model = more * ((1 - EVEN) * model + EVEN * model.mean())
        likely = [nbinom.logpmf(found, one, one / (one + model)).sum() for one in RATIO_SHAPES]
        shape = RATIO_SHAPES[int(np.argmax(likely))]
        expected = model * (found + shape) / (model + shape)
        offset = np.log(expected / more) - np.log(spread)
        return Calibration(offset=offset.astype(np.float32), slope=self.slope, center=center)

    def shares(self, values: Float32[np.ndarray, "B G"]) -> Float32[np.ndarray, "B G"]:
        """Return what each gene is expected to have of a cell's molecules; a cell's add up to 1."""
        reach = np.clip(self.slope * (values - self.center), -FARTHEST, FARTHEST)
        shares = np.exp(self.offset + reach.astype(np.float32))
        return shares / shares.sum(axis=1, keepdims=True)


def _chunks(num_genes: int) -> list[slice]:
    return [slice(start, min(start + GENES_AT_ONCE, num_genes)) for start in range(0, num_genes, GENES_AT_ONCE)]


def _moments(
    values: Float[np.ndarray, "B g"], totals: Float[np.ndarray, " B"], slope: Float[np.ndarray, " g"]
) -> tuple[Float64[np.ndarray, " g"], Float64[np.ndarray, " g"], Float64[np.ndarray, " g"]]:
    """Return the molecules of each gene as a slope spreads them, at offset 0, and their mean and variance of value."""
    weights = totals[:, None] * np.exp(np.clip(slope * values, -LARGEST, LARGEST))
    total, first = weights.sum(axis=0), weights * values
    mean = first.sum(axis=0) / total
    return total, mean, (first * values).sum(axis=0) / total - mean**2


def _shares(values: Float[np.ndarray, "B g"]) -> Float[np.ndarray, "B g"]:
    return np.expm1(np.clip(values, 1e-3, np.log1p(PER))) / PER  # no gene has less than none, or more than all
