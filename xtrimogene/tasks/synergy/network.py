"""What drugs do to a cell line: one network for a single drug and for two, whose order it cannot see.

Each drug meets the line by itself; mean and product over the drugs of a row are all that the head reads of them.

Letters: R rows; K drugs of a row; D drugs; U drugs on a line; F bits of a fingerprint; L lines; C width of a line's
vector; W width.
"""

from functools import reduce
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from xtrimogene.tasks.synergy.drug_encoder import DrugEncoder
from xtrimogene.tasks.synergy.drug_graph import DrugGraphs

DrugView = Literal["fingerprint", "graph", "both"]


class ResponseNetwork(nn.Module):
    """Log odds of a label, or a standardized value, of each row.

    Parameters
    ----------
    num_bits
        Of a fingerprint that are read; 0: the drug's graph alone, if any.
    graph_layers
        Convolutions over bonds; 0: the fingerprint alone.
    cell_dim
        Width of a line's vector; 0: the network knows no line.
    """

    def __init__(self, *, num_bits: int, graph_layers: int, cell_dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.from_bits = nn.Linear(num_bits, width) if num_bits else None
        self.from_graph = DrugEncoder(width, graph_layers) if graph_layers else None
        self.from_cell = nn.Sequential(nn.Linear(cell_dim, width), nn.LayerNorm(width)) if cell_dim else None
        self.drug_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.drug_meets = nn.Linear(width, width)
        self.cell_meets = nn.Linear(width, width, bias=False)
        self.head = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1))

    def forward(
        self,
        drugs: Int64[Tensor, "R K"],
        lines: Int64[Tensor, " R"],
        bits: Float[Tensor, "D F"],
        graphs: DrugGraphs | None,
        cells: Float[Tensor, "L C"],
    ) -> Float[Tensor, " R"]:
        drug, cell = self._drugs(bits, graphs), self._cells(cells)  # (D, W), (L, W)
        place = drugs * len(cells) + lines[:, None]  # (R, K), in the table of all drugs and lines
        asked, at = torch.unique(place, return_inverse=True)  # (U,), (R, K): what meets in these rows, once
        drug_part = functional.embedding(asked // len(cells), self.drug_meets(drug))
        met = (drug_part + functional.embedding(asked % len(cells), self.cell_meets(cell))).relu()  # (U, W)
        each = functional.embedding(at, met).unbind(dim=1)  # K of (R, W)
        own = functional.embedding(lines, cell)  # its gradient is several times faster than that of indexing
        read = torch.cat([reduce(torch.add, each) / len(each), reduce(torch.mul, each), own], dim=1)  # (R, 3 W)
        return self.head(read).squeeze(-1)

    def _drugs(self, bits: Float[Tensor, "D F"], graphs: DrugGraphs | None) -> Float[Tensor, "D W"]:
        parts = [] if self.from_bits is None else [self.from_bits(bits)]
        if self.from_graph is not None:
            assert graphs is not None
            parts.append(self.from_graph(graphs))
        parts = parts or [bits.new_zeros(len(bits), self.drug_meets.in_features)]  # in these rows all drugs are alike
        return self.dropout(self.drug_norm(torch.stack(parts).sum(dim=0)).relu())

    def _cells(self, cells: Float[Tensor, "L C"]) -> Float[Tensor, "L W"]:
        if self.from_cell is None:
            return cells.new_zeros(len(cells), self.drug_meets.in_features)
        return self.dropout(self.from_cell(cells).relu())
