"""A plane for looking at cells: UMAP of a reference alone, onto which others are projected one by one.

A cell is put between its nearest cells of the reference, by how much nearer each of them is than the first that is
left out (the weights of Dudani, 1976), so that its place depends on no other cell and hardly on rounding. UMAP's own
projection goes on from such a place by random steps, in which rounding alone can carry a cell across a cluster. A cell
that is like none of the reference's clusters may lie between them, where random steps would pull it into one.

Letters: A cells of the reference; B cells asked for; Q width of their space.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32
from sklearn.neighbors import NearestNeighbors

from xtrimogene.errors import ConfigError

if TYPE_CHECKING:
    from umap import UMAP

NUM_NEIGHBORS, MIN_DISTANCE = 15, 0.3
LEAST_CELLS = 5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class UmapLayout:
    """The reference's cells, and their places on the plane."""

    reference: Float32[np.ndarray, "A Q"]
    places: Float32[np.ndarray, "A 2"]

    @classmethod
    def fit(cls, reference: Float32[np.ndarray, "A Q"], *, seed: int = 0) -> "UmapLayout":
        """Fit on these cells, which all have a place.

        Raises
        ------
        ConfigError
            Fewer than five cells.
        """
        require_cells(len(reference))
        layout = umap_class()(
            n_neighbors=min(NUM_NEIGHBORS, len(reference) - 1),
            min_dist=MIN_DISTANCE,
            random_state=seed,
            n_jobs=1,
        )
        places = layout.fit_transform(reference)
        return cls(reference=reference, places=np.asarray(places, dtype=np.float32))

    def project(self, cells: Float32[np.ndarray, "B Q"]) -> Float32[np.ndarray, "B 2"]:
        """Return each cell's place among the reference's; a NaN row has none, and is NaN."""
        plane = np.full((len(cells), 2), np.nan, np.float32)
        known = np.flatnonzero(np.isfinite(cells).all(axis=1))
        if len(known):
            number = min(NUM_NEIGHBORS, len(self.reference) - 1)
            search = NearestNeighbors(n_neighbors=number + 1, algorithm="brute").fit(self.reference)
            apart, nearest = search.kneighbors(cells[known])
            weights = apart[:, -1:] - apart
            weights[weights.sum(axis=1) == 0] = 1  # all lie as far
            weights /= weights.sum(axis=1, keepdims=True)
            plane[known] = np.einsum("bk,bkx->bx", weights, self.places[nearest])
        return plane


def require_cells(number: int) -> None:
    """Refuse a reference too small for a UMAP, before long work.

    Raises
    ------
    ConfigError
        Fewer than five cells.
    """
    if number < LEAST_CELLS:
        raise ConfigError(
            f"a UMAP of {number} cells cannot be; at least {LEAST_CELLS} are needed, or umap=False for none."
        )


def umap_class() -> "type[UMAP]":
    """Return UMAP; importing it compiles for seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # it would like Tensorflow for a part that is not used
        from umap import UMAP
    return UMAP
