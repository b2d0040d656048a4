"""FSDP2: the parameters, gradients and optimizer states of a run in shares, one a device."""

from collections.abc import Sequence

from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from xtrimogene.model.xtrimogene import XTrimoGene


def shard(module: nn.Module, network: XTrimoGene, mesh: DeviceMesh, passes: Sequence[str]) -> None:
    """Shard a module that holds a network: block by block, and all the rest of it as one.

    A block is whole on a device only while it is computed, the rest for the length of a pass.

    Parameters
    ----------
    passes
        The methods of ``module`` that read its parameters; nothing else may.
    """
    for block in (*network.encoder.blocks, *network.decoder.blocks):
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    for name in passes:
        register_fsdp_forward_method(module, name)


def whole_network(network: XTrimoGene) -> XTrimoGene:
    """Gather a sharded network on the CPU of every process; all have to ask."""
    state = get_model_state_dict(network, options=StateDictOptions(full_state_dict=True))
    whole = XTrimoGene(network.config, seed=None)
    whole.load_state_dict(state)
    return whole
