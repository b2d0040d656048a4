"""Activation checkpointing: backward computes a part of each block again instead of keeping what it would need.

Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xtrimogene.config import ActivationCheckpointing


class CheckpointedBlock(nn.Module):
    """A block with a part that training may compute twice; in evaluation mode, and by default, nothing is."""

    activation_checkpointing: ActivationCheckpointing = "none"

    def run(self, part: ActivationCheckpointing, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Call the function; where this part is the one to compute twice, keep its inputs alone for backward."""
        if self.training and self.activation_checkpointing == part:
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)


def set_activation_checkpointing(network: nn.Module, mode: ActivationCheckpointing) -> None:
    """Choose what training computes twice: "none", the "feed_forward" part of each block, or the whole "layer"."""
    for module in network.modules():
        if isinstance(module, CheckpointedBlock):
            module.activation_checkpointing = mode
