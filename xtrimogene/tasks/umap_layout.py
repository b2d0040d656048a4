"""A plane for looking at cells: UMAP of a reference alone, onto which others are projected one by one.

Letters: A cells of the reference; B cells asked for; Q width of their space.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from xtrimogene.errors import ConfigError

if TYPE_CHECKING:
    from umap import UMAP

NUM_NEIGHBORS, MIN_DISTANCE = 15, 0.3
NUM_EPOCHS = 300  # a third of them where cells are projected; left to UMAP, it would go by how many are
AT_ONCE = 4096  # cells projected: all distances from a small reference are held
LEAST_CELLS = 5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class UmapLayout:
    """A fitted UMAP, the reference's places on it, and one of its cells, which goes along with all that are asked for.

    UMAP takes the weights of a cell's edges as shares of the largest of all cells projected with it. A cell of the
    reference has the largest there can be, 1 for itself, so that with it along no cell's place depends on others.
    """

    umap: "UMAP"
    places: Float32[np.ndarray, "A 2"]
    companion: Float32[np.ndarray, "1 Q"]

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
            n_epochs=NUM_EPOCHS,
            random_state=seed,
            transform_seed=seed,
            n_jobs=1,
        )
        places = layout.fit_transform(reference)
        return cls(umap=layout, places=np.asarray(places, dtype=np.float32), companion=reference[:1].copy())

    def project(self, cells: Float32[np.ndarray, "B Q"]) -> Float32[np.ndarray, "B 2"]:
        """Return each cell's place among the reference's; a NaN row has none, and is NaN."""
        plane = np.full((len(cells), 2), np.nan, np.float32)
        known = np.flatnonzero(np.isfinite(cells).all(axis=1))
        for start in range(0, len(known), AT_ONCE):
            rows = known[start : start + AT_ONCE]
            plane[rows] = self.umap.transform(np.vstack([self.companion, cells[rows]]))[1:]
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
