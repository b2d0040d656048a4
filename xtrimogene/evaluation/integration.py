"""How well an embedding brings batches together and keeps types apart: the scores of scIB (Luecken et al., 2022).

They are scib-metrics' own, in the selection and with the neighbours of its ``Benchmarker``, but for two: clusters are
those of twenty starts of k-means, where its own has one and wavers, and PCR comparison is left out, since it asks for
the data before they were integrated. Neighbours are exact, but for those within kBET, of pynndescent.

Letters: N cells; P width of an embedding.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from types import ModuleType

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.neighbors import NearestNeighbors

from xtrimogene.errors import ConfigError, MissingExtraError
from xtrimogene.evaluation.metrics import cluster_scores

BIO_WEIGHT = 0.6
MOST_NEIGHBORS = 90
BIO = ("nmi", "ari", "silhouette_label", "isolated_labels", "clisi")
BATCH = ("bras", "ilisi", "kbet", "graph_connectivity")


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegrationScores:
    """Each between 0 and 1, the more the better; NaN where these cells say nothing of it, and then in no mean.

    ``bras`` is the silhouette of batches within labels, by cosine (Rautenstrauch and Ohler, 2025).
    """

    nmi: float
    ari: float
    silhouette_label: float
    isolated_labels: float
    clisi: float
    bras: float
    ilisi: float
    kbet: float
    graph_connectivity: float

    @property
    def bio(self) -> float:
        """The mean of what is kept of types: `BIO`."""
        return float(np.nanmean([getattr(self, name) for name in BIO]))

    @property
    def batch(self) -> float:
        """The mean of how far batches are mixed: `BATCH`."""
        return float(np.nanmean([getattr(self, name) for name in BATCH]))

    @property
    def total(self) -> float:
        return BIO_WEIGHT * self.bio + (1 - BIO_WEIGHT) * self.batch

    @classmethod
    def mean(cls, scores: "list[IntegrationScores]") -> "IntegrationScores":
        """Return the mean of each, over folds or seeds that have it."""
        found = {field.name: np.array([getattr(one, field.name) for one in scores]) for field in fields(cls)}
        return cls(
            **{
                name: float(one[~np.isnan(one)].mean()) if len(one[~np.isnan(one)]) else np.nan
                for name, one in found.items()
            }
        )


def integration_scores(
    embedding: Float[np.ndarray, "N P"], labels: Shaped[np.ndarray, " N"], batches: Shaped[np.ndarray, " N"]
) -> IntegrationScores:
    """Score one embedding of cells of several batches; cells without an embedding (a NaN row) are left out.

    Raises
    ------
    ConfigError
        Fewer than two labels or two batches, no label that is in two batches, or a label of each cell.
    MissingExtraError
        scib-metrics is not installed: pip install 'xtrimogene[eval]'.
    """
    scib = _scib_metrics()
    known = np.isfinite(embedding).all(axis=1)
    embedding = np.ascontiguousarray(embedding[known], dtype=np.float32)
    label, batch = (np.unique(one[known], return_inverse=True)[1] for one in (labels, batches))
    _check(label, batch)
    clusters = cluster_scores(embedding, label)
    nearest = NearestNeighbors(n_neighbors=min(MOST_NEIGHBORS, len(embedding) - 1)).fit(embedding)
    distances, indices = nearest.kneighbors(embedding)  # each cell is its own first

    def neighbors(number: int) -> object:
        few = min(number, indices.shape[1])
        return scib.nearest_neighbors.NeighborsResults(indices=indices[:, :few], distances=distances[:, :few])

    with _quiet():
        found = {
            "silhouette_label": scib.silhouette_label(embedding, label),
            "isolated_labels": scib.isolated_labels(embedding, label, batch),
            "clisi": scib.clisi_knn(neighbors(90), label),
            "bras": scib.bras(embedding, label, batch),
            "ilisi": scib.ilisi_knn(neighbors(90), batch),
            "kbet": scib.kbet_per_label(neighbors(50), batch, label),
            "graph_connectivity": scib.graph_connectivity(neighbors(15), label),
        }
    return IntegrationScores(nmi=clusters.nmi, ari=clusters.ari, **{name: float(one) for name, one in found.items()})


def _check(label: Shaped[np.ndarray, " N"], batch: Shaped[np.ndarray, " N"]) -> None:
    num_labels, num_batches = (len(np.unique(one)) for one in (label, batch))
    if num_labels < 2 or num_batches < 2:
        raise ConfigError(
            f"{len(label):,} cells have {num_labels} labels and {num_batches} batches; two of each are needed."
        )
    pairs = np.unique(np.stack([label, batch], axis=1), axis=0)
    if np.bincount(pairs[:, 0]).max() < 2:
        raise ConfigError("no label is in two batches, so nothing says whether they are mixed; name labels alike.")


def _scib_metrics() -> ModuleType:
    try:
        with _quiet():
            import scib_metrics
            import scib_metrics.nearest_neighbors
    except ModuleNotFoundError as error:
        if error.name != "scib_metrics":
            raise
        raise MissingExtraError(
            "scib-metrics is needed for integration scores; pip install 'xtrimogene[eval]'."
        ) from None
    return scib_metrics


@contextmanager
def _quiet() -> Iterator[None]:
    """Pass over what scib-metrics and jax say to their own authors, and of each label that has too few cells."""
    logger = logging.getLogger("scib_metrics")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", ImportWarning)
        try:
            yield
        finally:
            logger.setLevel(level)
