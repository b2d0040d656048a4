"""Screens with a known answer: effects of genes and of their pairs, and counts of perturbed cells made of real ones.

Letters: N cells; M genes; P parts; E effects; L latent dimensions.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from jaxtyping import Float, Shaped
from scipy.sparse import csr_matrix, vstack

from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.names import JOIN
from xtrimogene.tasks.perturbation.part_features import PartFeatures
from xtrimogene.tasks.unit_rows import unit_rows

LATENT = 6


def simulate_pairs(
    *, num_parts: int = 16, num_genes: int = 200, num_cells: int = 100, interaction: float = 0.0, seed: int = 0
) -> tuple[Effects, Float[np.ndarray, "E M"], PartFeatures]:
    """Return noisy effects of all parts and all of their pairs, the noiseless truth, and what is known of the parts.

    Each part has a latent vector u, which its features show, and a change f = common + u B. A pair does
    (1 - interaction / 2) (f_a + f_b) + interaction (u_a u_b) C: less than its parts together, and something of its own.
    """
    random = np.random.default_rng(seed)
    latent = random.normal(size=(num_parts, LATENT))
    own, joint = random.normal(size=(2, LATENT, num_genes)) * 0.2
    single = 0.2 * random.normal(size=num_genes) + latent @ own
    pairs = list(combinations(range(num_parts), 2))
    a, b = np.array(pairs).T
    paired = (1 - interaction / 2) * (single[a] + single[b]) + interaction * (latent[a] * latent[b]) @ joint
    truth = np.concatenate([single, paired])
    names = [f"gene{number:02d}" for number in range(num_parts)]
    variance = random.uniform(0.2, 1.0, size=num_genes)
    noise = np.sqrt(variance / num_cells)
    halves = 3 + np.sqrt(2) * noise * random.normal(size=(2, 1, num_genes))
    effects = Effects(
        perturbation=np.array([*names, *(JOIN.join((names[one], names[two])) for one, two in pairs)]),
        context=np.zeros(len(truth), dtype=np.int64),
        change=truth + noise * random.normal(size=truth.shape) + 3 - halves.mean(axis=0),
        num_cells=np.full(len(truth), num_cells),
        context_names=("all cells",),
        control=halves.mean(axis=0),
        halves=halves,
        num_controls=np.array([num_cells]),
        variance=variance,
    )
    shown = unit_rows(latent + 0.3 * random.normal(size=latent.shape))
    return effects, truth, PartFeatures(parts=tuple(names), sources={"states": shown})


def simulate_cells(
    controls: csr_matrix, changes: Mapping[str, Float[np.ndarray, " M"]], *, num_cells: int = 60, seed: int = 0
) -> tuple[csr_matrix, Shaped[np.ndarray, " N"]]:
    """Make perturbed cells of real control cells, and return their counts and perturbations.

    Parameters
    ----------
    controls
        Counts of control cells x genes.
    changes
        The change of the log rate of every gene, by perturbation. A count c becomes a Poisson count of mean
        c exp(change); a gene without a count stays without.
    """
    random = np.random.default_rng(seed)
    blocks, names = [], []
    for name, change in changes.items():
        cells = controls[random.integers(controls.shape[0], size=num_cells)].copy()
        cells.data = random.poisson(cells.data * np.exp(change[cells.indices])).astype(np.float32)
        cells.eliminate_zeros()
        blocks.append(cells)
        names += [name] * num_cells
    return csr_matrix(vstack(blocks)), np.array(names)
