"""scIB's scores, where it is known what they should be: batches mixed or apart, types apart or mixed."""

import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from xtrimogene.errors import ConfigError, MissingExtraError
from xtrimogene.evaluation.integration import BATCH, BIO, IntegrationScores, integration_scores

EXTRA = "the extra eval is not installed"
OF_TYPES = {"nmi": 0.5, "ari": 0.1, "silhouette_label": 0.6, "isolated_labels": 0.8, "clisi": 1.0}
SOME = IntegrationScores(**OF_TYPES, bras=0.9, ilisi=0.1, kbet=0.2, graph_connectivity=1.0)


def test_scores_are_means_of_means() -> None:
    assert set(BIO) | set(BATCH) == set(asdict(SOME))
    assert SOME.bio == pytest.approx(0.6) and SOME.batch == pytest.approx(0.55)
    assert SOME.total == pytest.approx(0.6 * 0.6 + 0.4 * 0.55)


def test_what_cells_say_nothing_of_is_in_no_mean() -> None:
    without = replace(SOME, kbet=np.nan)
    assert without.batch == pytest.approx(2 / 3)
    assert IntegrationScores.mean([SOME, without]).kbet == pytest.approx(0.2)
    assert np.isnan(IntegrationScores.mean([without]).kbet)
    assert IntegrationScores.mean([SOME, replace(SOME, ari=0.3)]).ari == pytest.approx(0.2)


@pytest.fixture(scope="module")
def cells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return three types far apart, 40 cells each, of two batches in turn."""
    random = np.random.default_rng(0)
    label = np.repeat(["B", "NK", "T"], 40)
    centers = np.repeat(20 * np.eye(3, 6), 40, axis=0)
    return random.normal(centers), label, np.tile(["one", "two"], 60)


@pytest.fixture
def exact_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find the neighbours within kBET without pynndescent, which numba compiles for half a minute.

    Of these cells both find the same: kBET is .9667 mixed, .2583 half apart and 1 shuffled by either.
    """
    neighbors = pytest.importorskip("scib_metrics.nearest_neighbors", reason=EXTRA)

    def find(points: np.ndarray, n_neighbors: int) -> object:
        nearest = NearestNeighbors(n_neighbors=n_neighbors).fit(points)
        distances, indices = nearest.kneighbors(points)  # each is its own first
        return neighbors.NeighborsResults(indices=indices, distances=distances)

    monkeypatch.setattr(neighbors, "pynndescent", find)


@pytest.mark.slow
@pytest.mark.usefixtures("exact_neighbors")
def test_batches_that_are_mixed_and_batches_that_lie_apart(cells: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    embedding, label, batch = cells
    missing = np.vstack([embedding, np.full((1, 6), np.nan)])
    mixed = integration_scores(missing, np.append(label, "T"), np.append(batch, "one"))
    assert mixed.nmi == mixed.ari == mixed.clisi == pytest.approx(1)
    assert mixed.silhouette_label > 0.9 and mixed.isolated_labels == pytest.approx(mixed.silhouette_label, abs=0.02)
    assert min(mixed.ilisi, mixed.kbet, mixed.graph_connectivity) > 0.9 and mixed.bras > 0.85

    half = integration_scores(embedding + 2.5 * (batch == "two")[:, None] * np.eye(6)[5], label, batch)
    assert half.kbet == pytest.approx(0.26, abs=0.03)

    moved = embedding + 10 * (batch == "two")[:, None] * np.eye(6)[5]
    apart = integration_scores(moved, label, batch)
    assert apart.kbet == 0 and apart.bras < 0.3
    assert apart.ilisi < 0.5, "a cell's 90 neighbours reach beyond the 20 of its type and batch"
    assert apart.graph_connectivity == pytest.approx(0.5, abs=0.01), "each type is in two halves"
    assert apart.batch < 0.4 < 0.9 < mixed.batch

    shuffled = integration_scores(embedding, np.random.default_rng(1).permutation(label), batch)
    assert shuffled.nmi < 0.1 and abs(shuffled.ari) < 0.1 and shuffled.silhouette_label < 0.55
    assert shuffled.bio < 0.5 < 0.95 < mixed.bio


def test_cells_that_say_nothing_are_refused(cells: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    pytest.importorskip("scib_metrics", reason=EXTRA)
    embedding, label, batch = cells
    with pytest.raises(ConfigError, match="120 cells have 1 labels and 2 batches; two of each are needed"):
        integration_scores(embedding, np.full(120, "T"), batch)
    with pytest.raises(ConfigError, match="no label is in two batches"):
        integration_scores(embedding, label, label)


def test_without_scib_metrics_the_extra_is_named(
    cells: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scib_metrics", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xtrimogene\[eval\]'"):
        integration_scores(*cells)
