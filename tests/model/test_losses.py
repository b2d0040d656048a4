"""What pre-training minimizes, against sums written out."""

import numpy as np
import torch
from scipy import sparse

from xtrimogene.data.packed_cells import pack_cells
from xtrimogene.model.losses import masked_squared_error, reconstruction_error


def test_masked_errors_are_added_up_in_float32() -> None:
    loss = masked_squared_error(torch.tensor([1.0, 4.0], dtype=torch.bfloat16), torch.tensor([0.0, 2.0]))
    assert loss.dtype == torch.float32 and loss.item() == 5.0


def test_reconstruction_weighs_zeros_and_nonzeros_of_measured_genes_the_same() -> None:
    counts = np.array([[3, 0, 1, 0, 0], [0, 2, 0, 0, 0], [1, 1, 1, 0, 0]], dtype=np.float32)
    measured = np.array([[True, True, True, True, False], [True, True, True, False, False]])
    panel = np.array([0, 1, 1])
    raw = pack_cells(sparse.csr_matrix(counts), measured=measured, panel=panel)
    predicted = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    values = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
    squares = (predicted.numpy() - values) ** 2
    per_cell = []
    for cell in range(3):
        nonzero, zero = counts[cell] > 0, (counts[cell] == 0) & measured[panel[cell]]
        # the last cell expresses all it was measured for: there is no zero to get wrong
        of_zeros = squares[cell][zero].mean() if zero.any() else 0.0
        per_cell.append(0.5 * (squares[cell][nonzero].mean() + of_zeros))
    np.testing.assert_allclose(reconstruction_error(predicted, raw), np.sum(per_cell), rtol=1e-5)


def test_an_unmeasured_gene_has_no_say() -> None:
    counts = sparse.csr_matrix(np.array([[3, 0, 1, 0]], dtype=np.float32))
    raw = pack_cells(counts, measured=np.array([True, True, True, False]))
    predicted = torch.zeros(1, 4)
    other = predicted.clone()
    other[0, 3] = 100.0
    assert torch.equal(reconstruction_error(predicted, raw), reconstruction_error(other, raw))
