"""What pre-training minimizes: squared errors of log1p values, zero and non-zero genes alike.

They are sums, so that what they are divided by can be counted over all parts of a step.

Letters: B cells, M hidden positions, G genes.
"""

from jaxtyping import Float
from torch import Tensor

from xtrimogene.data.packed_cells import PackedCells


def masked_squared_error(predicted: Float[Tensor, "M"], targets: Float[Tensor, "M"]) -> Float[Tensor, ""]:
    """Sum over the hidden positions, in float32."""
    return (predicted.float() - targets).square().sum()


def reconstruction_error(predicted: Float[Tensor, "B G"], raw: PackedCells) -> Float[Tensor, ""]:
    """Sum over the cells of the mean over a cell's measured genes, its zeros and non-zeros weighing the same."""
    predicted = predicted.float()
    cells = raw.cell_of_row()  # (N,)
    expressed = predicted[cells, raw.gene_ids]  # (N,)
    lengths = predicted.new_tensor(raw.segments.lengths)  # (B,)
    measured = raw.measured[raw.panel]  # (B, G)
    nonzero = _sum_by_cell((expressed - raw.values).square(), raw) / lengths
    zero = (predicted.square() * measured).sum(1) - _sum_by_cell(expressed.square(), raw)
    return 0.5 * (nonzero + zero / (measured.sum(1) - lengths).clamp(min=1)).sum()


def _sum_by_cell(x: Float[Tensor, "N"], raw: PackedCells) -> Float[Tensor, "B"]:
    return x.new_zeros(raw.num_cells).index_add(0, raw.cell_of_row(), x)
