"""Batches that travel to a device whole."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Own = TypeVar("Own")


class Movable:
    """A dataclass of tensors, of dataclasses of tensors, and of what stays on the host."""

    __slots__ = ()

    def to(self: Own, device: torch.device | str, non_blocking: bool = False) -> Own:
        moved: Own = _each(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))
        return moved

    def pin_memory(self: Own) -> Own:
        """Copy to memory from which a GPU reads while the host goes on."""
        pinned: Own = _each(self, lambda tensor: tensor.pin_memory())
        return pinned


def _each(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{entry.name: _each(getattr(part, entry.name), change) for entry in fields(part)})
    return change(part) if isinstance(part, Tensor) else part
