"""What is a large shift? One that edits of random genes of like expression seldom make.

Letters: E edits; M edits of random genes; G genes of the model; F features; D edits compared with each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.stats import false_discovery_control

from xtrimogene.data.packed_cells import COUNTS_PER_CELL
from xtrimogene.errors import ConfigError
from xtrimogene.tasks.in_silico.edits import Edit, EditableCells

LEAST, NEAREST = 20, 40  # edits of random genes: that there have to be, that each edit is compared with
_CHOICE = 20  # genes, most alike in expression, that one is drawn from
_TRIES = 20


def gene_features(cells: EditableCells) -> Float64[np.ndarray, "G 2"]:
    """Return log1p of how many cells express a gene, and log1p of counts per 10,000 in those that do."""
    expressing = cells.num_expressing
    shares = cells.columns.data / cells.totals[cells.columns.indices]
    sums = np.zeros(len(expressing))
    np.add.at(sums, np.repeat(np.arange(len(expressing)), expressing), shares)
    share = np.divide(sums, expressing, out=np.zeros(len(sums)), where=expressing > 0)
    return np.stack([np.log1p(expressing), np.log1p(COUNTS_PER_CELL * share)], axis=1)


def draw_like(
    edits: Sequence[Edit], cells: EditableCells, allowed: Bool[np.ndarray, " G"], number: int, *, seed: int
) -> tuple[Edit, ...]:
    """Draw edits of random genes, as many genes each and of like expression.

    Genes that are edited are not drawn, unless too few others are left, as where all are edited: then those edited
    are the random ones of each other (`compare` leaves an edit out of its own).

    Parameters
    ----------
    edits
        Of one kind.
    allowed
        The genes to draw from.

    Raises
    ------
    ConfigError
        Too few genes are left to draw from.
    """
    features = gene_features(cells)
    edited = {gene for edit in edits for gene in edit.genes}
    free = np.setdiff1d(np.flatnonzero(allowed), np.array(sorted(edited), dtype=np.int64))
    least = max(LEAST, 2 * len(edits[0].genes))
    if len(free) < least:
        free = np.flatnonzero(allowed)
    if len(free) < least:
        raise ConfigError(
            f"{len(free)} measured genes are expressed in enough cells, and {least} are needed to tell what edits of "
            "random genes do; lower min_cells, or set num_random=0."
        )
    spread = np.maximum(features[free].std(axis=0), 1e-9)
    scaled = features / spread
    generator = np.random.default_rng(seed)
    order = np.argsort([features[list(edit.genes)].sum() for edit in edits], kind="stable")
    drawn: dict[tuple[int, ...], Edit] = {}
    for place in np.linspace(0, len(edits) - 1, number).round().astype(int):
        like = edits[order[place]]
        for _ in range(_TRIES):
            genes = _others(like.genes, scaled, free, generator)
            if genes not in drawn:
                drawn[genes] = Edit(kind=like.kind, genes=genes)
                break
    return tuple(drawn.values())


def _others(
    genes: tuple[int, ...], scaled: Float64[np.ndarray, "G 2"], free: Int64[np.ndarray, " f"], draw: np.random.Generator
) -> tuple[int, ...]:
    chosen: list[int] = []
    for gene in genes:
        left = free[~np.isin(free, chosen)]
        near = left[np.argsort(((scaled[left] - scaled[gene]) ** 2).sum(axis=1), kind="stable")[:_CHOICE]]
        chosen.append(int(draw.choice(near)))
    return tuple(sorted(chosen))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Comparison:
    """What random edits, alike in the cells and values that they change, do; how far each edit is from that.

    ``z`` counts their standard deviations; ``p`` is the share of random edits that are as far from their own like, so
    at least 1 / (M + 1). NaN where an edit changes no cell.
    """

    expected: Float64[np.ndarray, " E"]
    spread: Float64[np.ndarray, " E"]
    z: Float64[np.ndarray, " E"]
    p: Float64[np.ndarray, " E"]


def compare(
    scores: Float64[np.ndarray, " E"],
    features: Float64[np.ndarray, "E F"],
    random_scores: Float64[np.ndarray, " M"],
    random_features: Float64[np.ndarray, "M F"],
    *,
    two_sided: bool,
    same: Bool[np.ndarray, "E M"] | None = None,
) -> Comparison:
    """Compare each edit with the random ones nearest to it in these features; without a score, an edit has none.

    A random edit that is the ``same`` as an edit is left out of its comparison.
    """
    if same is None:
        same = np.zeros((len(scores), len(random_scores)), dtype=bool)
    known, present = np.isfinite(random_scores), np.isfinite(scores)
    out = {name: np.full(len(scores), np.nan) for name in ("expected", "spread", "z", "p")}
    if known.sum() > LEAST // 2 and present.any():
        theirs, like = random_scores[known], random_features[known]
        scale = np.maximum(like.std(axis=0), 1e-9)
        itself = same[np.ix_(present, known)]
        mean, sd = _of_nearest(features[present] / scale, like / scale, theirs, itself=itself)
        own_mean, own_sd = _of_nearest(like / scale, like / scale, theirs, itself=np.eye(len(theirs), dtype=bool))
        z, own_z = (scores[present] - mean) / sd, (theirs - own_mean) / own_sd
        far, own_far = (np.abs(z), np.abs(own_z)) if two_sided else (z, own_z)
        beyond = ((own_far[None, :] >= far[:, None]) & ~itself).sum(axis=1)
        found = {"expected": mean, "spread": sd, "z": z, "p": (1 + beyond) / (1 + (~itself).sum(axis=1))}
        for name, values in found.items():
            out[name][present] = values
    return Comparison(**out)


def _of_nearest(
    features: Float64[np.ndarray, "E F"],
    random_features: Float64[np.ndarray, "M F"],
    scores: Float64[np.ndarray, " M"],
    *,
    itself: Bool[np.ndarray, "E M"],
) -> tuple[Float64[np.ndarray, " E"], Float64[np.ndarray, " E"]]:
    """Return mean and standard deviation of the nearest, but for the edit itself."""
    squares = ((features[:, None, :] - random_features[None, :, :]) ** 2).sum(axis=2)  # (E, M)
    squares[itself] = np.inf
    number = min(NEAREST, len(scores) - int(itself.sum(axis=1).max()))
    nearest = np.argsort(squares, axis=1, kind="stable")[:, :number]  # (E, D)
    near = scores[nearest]
    return near.mean(axis=1), np.maximum(near.std(axis=1, ddof=1), 1e-12)


def false_discovery_rates(p: Float64[np.ndarray, " E"]) -> Float64[np.ndarray, " E"]:
    """Return Benjamini and Hochberg's adjusted p (1995), over those that are numbers."""
    known = np.isfinite(p)
    adjusted = np.full(len(p), np.nan)
    if known.any():
        adjusted[known] = false_discovery_control(p[known])
    return adjusted
