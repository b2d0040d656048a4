"""The last layers of a network, apart from the rest: what fine-tuning trains.

Letters: B cells, N tokens, D encoder width, P width of a cell's vector.
"""

from collections.abc import Mapping
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xtrimogene.config import Pool
from xtrimogene.data.packed_cells import PackedCells
from xtrimogene.errors import ConfigError
from xtrimogene.model.pooling import pool_cells
from xtrimogene.model.xtrimogene import XTrimoGene


class Tail(nn.Module):
    """A copy of the last ``num_layers`` of an encoder and of what pools its tokens; these weights alone train.

    Raises
    ------
    ConfigError
        The encoder has no so many layers.
    """

    def __init__(self, network: XTrimoGene, pool: Pool, *, num_layers: int = 1) -> None:
        super().__init__()
        blocks = network.encoder.blocks
        require_layers(network, num_layers)
        self.pool = pool
        self.first = len(blocks) - num_layers
        self.blocks = deepcopy(blocks[self.first :]).requires_grad_(True)
        self.norm = deepcopy(network.encoder.norm).requires_grad_(True)
        self.latent_head = deepcopy(network.latent_head) if pool == "latent" else None
        if self.latent_head is not None:
            self.latent_head.requires_grad_(False)
            self.latent_head.to_latent.requires_grad_(True)

    def forward(self, x: Float[Tensor, "N D"], packed: PackedCells) -> Float[Tensor, "B P"]:
        for block in self.blocks:
            x = block(x, packed.segments)
        return pool_cells(self.norm(x), packed, self.pool, self.latent_head)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that train, under the names that they have in the network."""
        parts: dict[str, nn.Module] = {"encoder.norm": self.norm}
        parts |= {f"encoder.blocks.{self.first + number}": block for number, block in enumerate(self.blocks)}
        if self.latent_head is not None:
            parts["latent_head.to_latent"] = self.latent_head.to_latent
        return {f"{name}.{own}": w.detach() for name, part in parts.items() for own, w in part.named_parameters()}

    @torch.no_grad()
    def with_weights(self, weights: Mapping[str, Tensor]) -> "Tail":
        """Return a copy that has these weights of `weights`."""
        other = deepcopy(self)
        for name, weight in other.weights().items():
            weight.copy_(weights[name])
        return other


def require_layers(network: XTrimoGene, num_layers: int) -> None:
    """Refuse to tune more layers than the encoder has, before long work.

    Raises
    ------
    ConfigError
        It has no so many.
    """
    most = len(network.encoder.blocks)
    if not 1 <= num_layers <= most:
        raise ConfigError(f"num_layers={num_layers} of an encoder of {most} layers; give 1 to {most}.")


def with_weights(network: XTrimoGene, weights: Mapping[str, Tensor]) -> XTrimoGene:
    """Return a copy of the network with some of its weights replaced.

    Raises
    ------
    ConfigError
        A weight that the network has not, or of another shape.
    """
    own = network.state_dict()
    for name, weight in weights.items():
        if name not in own or own[name].shape != weight.shape:
            raise ConfigError(f"the network has no weight {name!r} of shape {tuple(weight.shape)}; tune it again.")
    tuned = deepcopy(network)
    tuned.load_state_dict(weights, strict=False)
    return tuned
