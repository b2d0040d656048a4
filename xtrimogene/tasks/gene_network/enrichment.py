"""Which gene sets a module holds more of than by chance: hypergeometric, with Benjamini and Hochberg's correction.

The background is the genes that were asked, not the genome: genes that could not be in a module prove nothing.
Letters: A genes asked; M modules; S gene sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.stats import false_discovery_control, hypergeom

MIN_SIZE, MAX_SIZE = 5, 500  # of a set, among the genes asked


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Enrichment:
    """Genes in common, sizes among the genes asked, and p adjusted over all modules and sets tested; 1 if untested."""

    overlap: Int64[np.ndarray, "M S"]
    module_sizes: Int64[np.ndarray, " M"]
    set_sizes: Int64[np.ndarray, " S"]
    num_genes: int
    p: Float64[np.ndarray, "M S"]
    adjusted_p: Float64[np.ndarray, "M S"]

    @property
    def fold(self) -> Float64[np.ndarray, "M S"]:
        """Genes in common over those expected."""
        expected = np.outer(self.module_sizes, self.set_sizes) / max(1, self.num_genes)
        return np.divide(self.overlap, expected, out=np.zeros(self.overlap.shape), where=expected > 0)


def set_members(sets: Sequence[Int64[np.ndarray, "_"]], asked: Int64[np.ndarray, " A"]) -> Bool[np.ndarray, "S A"]:
    """Say which of the genes asked are in each set, given as places; a place of -1 is no gene."""
    return np.stack([np.isin(asked, places[places >= 0]) for places in sets])


def enrich(modules: Int64[np.ndarray, " A"], sets: Bool[np.ndarray, "S A"]) -> Enrichment:
    """Test every module for every set of 5 to 500 of the genes asked; module -1 is none."""
    num_modules = int(modules.max(initial=-1)) + 1
    members = modules == np.arange(num_modules)[:, None]  # (M, A)
    overlap = members.astype(np.float32) @ sets.T.astype(np.float32)  # (M, S), exact below 2^24
    sizes, of_sets = members.sum(axis=1), sets.sum(axis=1)
    tested = (of_sets >= MIN_SIZE) & (of_sets <= MAX_SIZE)
    p, adjusted = np.ones(overlap.shape), np.ones(overlap.shape)
    chance = hypergeom.sf(overlap[:, tested] - 1, len(modules), of_sets[tested], sizes[:, None]).clip(0, 1)
    p[:, tested] = chance
    adjusted[:, tested] = false_discovery_control(chance.ravel()).reshape(chance.shape)
    return Enrichment(
        overlap=overlap.astype(np.int64),
        module_sizes=sizes,
        set_sizes=of_sets,
        p=p,
        adjusted_p=adjusted,
        num_genes=len(modules),
    )
