"""2-D rotary positions: half of a head's channels turn by the first position, half by the second.

Source: RoFormer (arXiv 2104.09864); GLM (arXiv 2103.10360) for the two positions.
Letters: N tokens, packed; H heads; d width of a head; f = d / 4 frequencies.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

BASE = 10_000.0


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """Cosines and sines of the angles, for every head alike."""

    cos: Float[Tensor, "N 1 2 f"]
    sin: Float[Tensor, "N 1 2 f"]

    @classmethod
    def from_positions(cls, positions: Int64[Tensor, "N 2"], head_dim: int) -> "Rotation":
        steps = torch.arange(head_dim // 4, device=positions.device, dtype=torch.float32)
        angles = positions[..., None] * BASE ** (-4 * steps / head_dim)  # (N, 2, f)
        return cls(angles.cos()[:, None], angles.sin()[:, None])

    def turn(self, x: Float[Tensor, "N H d"]) -> Float[Tensor, "N H d"]:
        """Turn each pair of channels; the angle between two tokens is that of their distance."""
        first, second = x.reshape(*x.shape[:2], 2, 2, x.shape[2] // 4).unbind(-2)  # (N, H, 2, f) each
        turned = [first * self.cos - second * self.sin, second * self.cos + first * self.sin]
        return torch.stack(turned, dim=-2).flatten(-3).to(x.dtype)  # (N, H, d)
