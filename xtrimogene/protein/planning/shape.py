"""Layers, width and heads for so many parameters."""

import math
from dataclasses import dataclass

from xtrimogene.config import require
from xtrimogene.protein.config import ProteinConfig
from xtrimogene.protein.network.parameters import transformer_parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A transformer whose feed-forward part has 8 weights for each 4 of attention, whatever its kind."""

    num_layers: int
    dim: int
    num_heads: int

    @property
    def num_parameters(self) -> int:
        """12 x layers x width^2: the N of the laws, without embeddings and norms."""
        return transformer_parameters(self.num_layers, self.dim)

    def config(self, max_length: int) -> ProteinConfig:
        """Return our model of this shape."""
        return ProteinConfig(dim=self.dim, num_layers=self.num_layers, num_heads=self.num_heads, max_length=max_length)


# Width over layers of the models that the laws of Cheng et al. were fitted on and tried with: 12 x 768, 47 x 4352.
_ASPECTS = ((84_934_656, 64.0), (10_682_105_856, 4352 / 47))
MOST = 1e14
_WIDE = 2048  # from here on a head has 128 channels, below 64


def shape_of(num_parameters: float) -> Shape:
    """Return the shape nearest to so many parameters, of all as deep for their width as those of the source.

    A miss of the size weighs five times as much as one of the depth.

    Raises
    ------
    ConfigError
        Less than the smallest such model, of one layer.
    """
    require(
        num_parameters >= 12 * 64**2,
        f"{num_parameters:,.0f} parameters are less than one layer 64 wide has (49,152); a larger budget is needed.",
    )
    require(num_parameters <= MOST, f"{num_parameters:.3g} parameters are beyond any law; a smaller budget is needed.")
    sizes, aspects = zip(*_ASPECTS, strict=True)
    steps = math.log(num_parameters / sizes[0]) / math.log(sizes[1] / sizes[0])
    aspect = aspects[0] * (aspects[1] / aspects[0]) ** steps
    guess = (num_parameters * aspect / 12) ** (1 / 3)
    shapes = []
    for channels in (64, 128):
        nearest = round(guess / channels)
        for num_heads in range(max(1, nearest // 2), 2 * nearest + 2):
            dim = channels * num_heads
            if (dim >= _WIDE) == (channels == 128):
                num_layers = max(1, round(num_parameters / (12 * dim**2)))
                shapes.append(Shape(num_layers=num_layers, dim=dim, num_heads=num_heads))

    def miss(shape: Shape) -> float:
        size = abs(math.log(shape.num_parameters / num_parameters))
        return 5 * size + abs(math.log(shape.dim / shape.num_layers / aspect))

    return min(shapes, key=miss)
