"""What generation keeps of the tokens so far, so that each is computed once.

Letters: B sequences of one length; T tokens of each; H heads; d width of a head.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from xtrimogene_kernels.segments import Segments


class LayerCache:
    """Keys and values of one layer, for sequences of one length."""

    def __init__(self) -> None:
        self.rows: Float[Tensor, "2 B T H d"] | None = None

    def extend(
        self, key: Float[Tensor, "N H d"], value: Float[Tensor, "N H d"], num_sequences: int
    ) -> tuple[Float[Tensor, "M H d"], Float[Tensor, "M H d"], Segments]:
        """Add the tokens that came, as many of each sequence, and return all so far, packed."""
        new = torch.stack([key, value]).view(2, num_sequences, -1, *key.shape[1:])  # (2, B, T, H, d)
        self.rows = new if self.rows is None else torch.cat([self.rows, new], dim=2)
        keys, values = self.rows.flatten(1, 2)  # (B T, H, d) each
        return keys, values, Segments.from_lengths([self.rows.shape[2]] * num_sequences, key.device)

    def select(self, sequences: Int64[Tensor, "B"]) -> None:
        """Go on with these sequences; one may be taken several times."""
        assert self.rows is not None
        self.rows = self.rows[:, sequences]
