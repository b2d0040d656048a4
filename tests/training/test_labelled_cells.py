"""Cells as fine-tuning reads them: thinned, and whole in the end."""

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix, vstack

from xtrimogene.config import ReadDepthConfig
from xtrimogene.training.labelled_cells import thin


def test_thinned_cells_can_be_read_and_fractions_count_for_what_they_are(make_counts: Any) -> None:
    two = csr_matrix(([1.0, 1.0], ([0, 0], [3, 4])), shape=(1, 40), dtype=np.float32)
    counts = vstack([two, make_counts(49, 40, seed=2)], format="csr")
    config, random = ReadDepthConfig(unchanged_probability=0.0), np.random.default_rng(0)
    thinned = [thin(counts, config, random) for _ in range(60)]
    totals = np.array([np.asarray(one.sum(axis=1)).ravel() for one in thinned])
    assert totals.min() > 1 and (totals <= np.asarray(counts.sum(axis=1)).ravel()).all()
    assert 0.4 < totals[:, 1:].sum() / (60 * counts[1:].sum()) < 0.6, "half of the molecules, on average"
    halves = csr_matrix(counts * 0.5)
    unchanged = [thin(halves, ReadDepthConfig(unchanged_probability=1.0), random).sum() for _ in range(60)]
    assert np.mean(unchanged) == pytest.approx(halves.sum(), rel=0.03)
