"""Blend what a model predicts, what neighbouring cells have and what a cell has itself.

Twice a gamma-Poisson posterior (`shrinkage`): the model's prediction is the prior that the neighbours' molecules weigh
against, and what comes of it is the prior that the cell's own molecules weigh against. So a gene of which the
neighbours have many molecules is told by them, and a rare one by the model. Neighbours, steps and both strengths are
chosen by molecular cross-validation: the strengths for the highly variable genes and for the others, the neighbours by
the former.
Letters: B cells; M genes measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from scipy.sparse import csr_matrix

from xtrimogene.evaluation.baselines import highly_variable_genes, log_normalize
from xtrimogene.tasks.denoising.molecules import log_loss
from xtrimogene.tasks.denoising.neighbors import Neighbors
from xtrimogene.tasks.denoising.shrinkage import STRENGTHS, posterior, shrink
from xtrimogene.tasks.denoising.smoothing import NEIGHBORS, STEPS, Smoothing

NEIGHBORS_ALONE, MODEL_ALONE = STRENGTHS[0], 1e6
PRIOR_STRENGTHS = (*STRENGTHS, MODEL_ALONE)
NUM_ROUNDS = 4
LEAST_PRIOR = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Blend:
    """How far to believe the model against the neighbours, and both against the cell; strengths are of each gene."""

    smoothing: Smoothing
    against_neighbors: Float32[np.ndarray, " M"]
    against_cell: Float32[np.ndarray, " M"]

    def as_dict(self) -> dict[str, Any]:
        """Say how: the strengths are those of each class of genes, once."""
        pairs = np.unique(np.stack([self.against_neighbors, self.against_cell], axis=1), axis=0)
        return {
            "num_neighbors": self.smoothing.num_neighbors,
            "num_steps": self.smoothing.num_steps,
            "against_neighbors": [float(value) for value in pairs[:, 0]],
            "against_cell": [float(value) for value in pairs[:, 1]],
        }

    def shares(
        self, counts: csr_matrix, around: csr_matrix, prior: Float32[np.ndarray, "B M"]
    ) -> Float32[np.ndarray, "B M"]:
        """Return the expected share of each gene; a cell's add up to 1.

        Parameters
        ----------
        counts, around
            The molecules of the cells and of their neighbours, B x M.
        prior
            Shares that the model predicts.
        """
        told = shrink(around, np.maximum(prior, LEAST_PRIOR), self.against_neighbors)
        return shrink(counts, told, self.against_cell)


def choose_blend(
    seen: csr_matrix,
    held_out: csr_matrix,
    prior: Float32[np.ndarray, "B M"],
    neighbors: Neighbors,
) -> Blend:
    """Choose what tells most of the molecules held out (`molecules.log_loss`), one choice after another until all stay.

    Parameters
    ----------
    seen, held_out
        Two parts of the molecules of some cells.
    neighbors
        Cells with the same part of their molecules as ``seen``, these and others.
    """
    variable = highly_variable_genes(log_normalize(neighbors.counts))
    others = np.setdiff1d(np.arange(seen.shape[1]), variable)
    walks = {k: neighbors.step(neighbors.counts, k) for k in NEIGHBORS}
    grid = [Smoothing(num_neighbors=k, num_steps=t) for k in NEIGHBORS for t in STEPS]
    reached = {how: neighbors.reached(seen, how, walks[how.num_neighbors]) for how in grid}
    how, first, second = _descend(seen, held_out, prior, neighbors.counts, reached, variable)
    against_neighbors = np.full(seen.shape[1], first, dtype=np.float32)
    against_cell = np.full(seen.shape[1], second, dtype=np.float32)
    if len(others):
        _, first, second = _descend(seen, held_out, prior, neighbors.counts, {how: reached[how]}, others)
        against_neighbors[others], against_cell[others] = first, second
    return Blend(smoothing=how, against_neighbors=against_neighbors, against_cell=against_cell)


def _descend(
    seen: csr_matrix,
    held_out: csr_matrix,
    prior: Float32[np.ndarray, "B M"],
    kept: csr_matrix,
    reached: dict[Smoothing, csr_matrix],
    genes: Int64[np.ndarray, " g"],
) -> tuple[Smoothing, float, float]:
    """Choose steps and strengths for these genes, whose loss is that of telling them apart."""
    own, own_total = seen[:, genes].toarray().astype(np.float32), _totals(seen)
    target, expected = csr_matrix(held_out[:, genes]), np.maximum(prior[:, genes], LEAST_PRIOR)
    around = {how: _dense(weights @ kept[:, genes]) for how, weights in reached.items()}
    around_total = {how: (weights @ _totals(kept)).astype(np.float32) for how, weights in reached.items()}

    def loss(how: Smoothing, first: float, second: float) -> float:
        told = posterior(around[how], around_total[how], expected, first)
        return float(np.nanmean(log_loss(target, posterior(own, own_total, told, second))))

    if not target.nnz:
        return next(iter(reached)), MODEL_ALONE, 3.0
    options: tuple[Sequence[Any], ...] = (list(reached), PRIOR_STRENGTHS, STRENGTHS)
    now: list[Any] = [options[0][0], 1.0, 3.0]
    for _ in range(NUM_ROUNDS):
        before = list(now)
        for axis, values in enumerate(options):
            losses = [loss(*(now[:axis] + [value] + now[axis + 1 :])) for value in values]
            now[axis] = values[int(np.argmin(losses))]
        if now == before:
            break
    return now[0], now[1], now[2]


def _dense(counts: csr_matrix) -> Float32[np.ndarray, "B g"]:
    return np.asarray(counts.toarray(), dtype=np.float32)


def _totals(counts: csr_matrix) -> Float32[np.ndarray, "B 1"]:
    return np.asarray(counts.sum(axis=1), dtype=np.float32)
