"""What pre-training minimizes: squared errors of log1p values, zero and non-zero genes alike.

Letters: B cells, M hidden positions, G genes.
"""

from jaxtyping import Float
from torch import Tensor

from xtrimogene.data.packed_cells import PackedCells


def masked_regression_loss(predicted: Float[Tensor, "M"], targets: Float[Tensor, "M"]) -> Float[Tensor, ""]:
    """Mean squared error over the hidden positions, in float32."""
    return (predicted.float() - targets).square().mean()


def reconstruction_loss(predicted: Float[Tensor, "B G"], raw: PackedCells) -> Float[Tensor, ""]:
    """Mean squared error over the measured genes of each cell, its zeros and non-zeros weighing the same."""
    predicted = predicted.float()
    cells = raw.cell_of_row()  # (N,)
    expressed = predicted[cells, raw.gene_ids]  # (N,)
    lengths = predicted.new_tensor(raw.segments.lengths)  # (B,)
    measured = raw.measured[raw.panel]  # (B, G)
    nonzero = _sum_by_cell((expressed - raw.values).square(), raw) / lengths
    zero = (predicted.square() * measured).sum(1) - _sum_by_cell(expressed.square(), raw)
    return 0.5 * (nonzero + zero / (measured.sum(1) - lengths).clamp(min=1)).mean()


def _sum_by_cell(x: Float[Tensor, "N"], raw: PackedCells) -> Float[Tensor, "B"]:
    return x.new_zeros(raw.num_cells).index_add(0, raw.cell_of_row(), x)
