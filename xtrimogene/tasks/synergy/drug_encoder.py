"""A drug's graph to its vector, by convolutions over bonds (GINE; Hu et al. 2020).

Letters: D drugs; A atoms; B directed bonds; F features of an atom; W width.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xtrimogene.tasks.synergy.drug_graph import ATOM_FEATURES, BONDS, DrugGraphs


class GraphConvolution(nn.Module):
    """Each atom adds up what its neighbours say through their bonds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bond = nn.Embedding(len(BONDS), width)
        self.update = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "A W"], graphs: DrugGraphs) -> Float[Tensor, "A W"]:
        messages = (x[graphs.bond_from] + self.bond(graphs.bond_kind)).relu()  # (B, W)
        heard = torch.zeros_like(x).index_add(0, graphs.bond_to, messages)  # (A, W)
        return x + self.update(self.norm(x + heard))


class DrugEncoder(nn.Module):
    """Mean and maximum over the atoms of a drug, after convolutions."""

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__()
        self.embed = nn.Linear(ATOM_FEATURES, width)
        self.layers = nn.ModuleList(GraphConvolution(width) for _ in range(num_layers))
        self.out = nn.Linear(2 * width, width)

    def forward(self, graphs: DrugGraphs) -> Float[Tensor, "D W"]:
        x = self.embed(graphs.atoms)  # (A, W)
        for layer in self.layers:
            x = layer(x, graphs)
        drug = graphs.drug_of_atom[:, None].expand_as(x)
        zeros = x.new_zeros(graphs.num_drugs, x.shape[1])
        mean = zeros.scatter_reduce(0, drug, x, "mean", include_self=False)
        most = zeros.scatter_reduce(0, drug, x, "amax", include_self=False)
        return self.out(torch.cat([mean, most], dim=1))  # (D, W)
