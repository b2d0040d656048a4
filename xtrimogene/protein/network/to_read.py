"""A network as it is read: on its device, in evaluation mode."""

from copy import deepcopy

import torch

from xtrimogene.protein.network.protein_lm import ProteinLM


def network_to_read(network: ProteinLM, device: torch.device) -> ProteinLM:
    """Return this network where it is ready, and otherwise a copy: the caller's own is left as it was."""
    place = torch.empty(0, device=device).device  # "cuda" is "cuda:0" on a tensor
    ready = next(network.parameters()).device == place and not any(module.training for module in network.modules())
    return network if ready else deepcopy(network).to(device).eval()
