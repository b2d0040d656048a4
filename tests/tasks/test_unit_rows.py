"""Rows of length 1."""

import numpy as np

from xtrimogene.tasks.unit_rows import unit_rows


def test_rows_by_hand() -> None:
    rows = np.array([[3, 4], [0, 0], [0, -2]], np.float32)
    found = unit_rows(rows)
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [0, -1]], rtol=1e-6)
    assert found.dtype == np.float32 and rows[0, 0] == 3
    np.testing.assert_array_equal(unit_rows(np.stack([rows, 2 * rows])), np.stack([found, found]))
    np.testing.assert_allclose(unit_rows(np.array([[1.0, 5.0], [1.0, 1.0]]), center=True), [[0, 1], [0, -1]])
