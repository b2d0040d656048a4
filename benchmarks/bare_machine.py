"""Stand-ins, to be imported before xtrimogene, for what it names at its modules' tops and a report never calls.

A lent machine with a GPU may have PyTorch, Triton, NumPy, SciPy, h5py and pandas alone.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Annotated


class StandIn(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # what Python asks of any module
            raise AttributeError(name)
        return Annotated  # takes a type and a note, as jaxtyping's names do


for name in ("jaxtyping", "safetensors", "safetensors.torch"):
    try:
        import_module(name)
    except ImportError:
        sys.modules[name] = StandIn(name)
