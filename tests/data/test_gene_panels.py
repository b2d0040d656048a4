"""Panels of an outer join: a gene is measured in a batch if some cell of it has a count."""

import numpy as np
from scipy import sparse

from xtrimogene.data.gene_panels import panels_of_batches


def test_a_batch_measures_what_some_cell_of_it_expresses() -> None:
    counts = sparse.csr_matrix(np.array([[1, 0, 0, 2], [0, 3, 0, 0], [0, 0, 5, 1], [0, 1, 0, 1]], dtype=np.float32))
    blocks = [(0, counts[:3]), (3, counts[3:])]
    measured, panel = panels_of_batches(blocks, np.array([True, True, True, False]), np.array(["b", "a", "b", "a"]))
    assert panel.tolist() == [1, 0, 1, 0] and panel.dtype == np.int64
    assert measured.tolist() == [[False, True, False, False], [True, False, True, False]]


def test_one_batch_is_one_panel() -> None:
    measured, panel = panels_of_batches(
        [(0, sparse.csr_matrix(np.eye(3, dtype=np.float32)))], np.ones(3, dtype=bool), np.full(3, "all")
    )
    assert measured.tolist() == [[True, True, True]] and panel.tolist() == [0, 0, 0]
