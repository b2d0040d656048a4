"""What every kernel asks of its arguments before it runs."""

from collections.abc import Sequence

from torch import Tensor

from xtrimogene_kernels.segments import Segments


def check_segments(name: str, tensor: Tensor, segments: Segments, *, allow_empty: bool = False) -> None:
    """Refuse segments that do not cover the rows of ``tensor`` exactly, on its device."""
    if segments.num_rows != tensor.shape[0]:
        raise ValueError(
            f"{name} has {tensor.shape[0]} rows but its segments hold {segments.num_rows}; "
            "pass the segments the rows were packed with."
        )
    if segments.cu_seqlens.device != tensor.device:
        raise ValueError(
            f"{name} is on {tensor.device} but its segments are on {segments.cu_seqlens.device}; "
            f"move them with segments.to({str(tensor.device)!r})."
        )
    if not allow_empty and 0 in segments.lengths:
        raise ValueError(
            f"every cell needs at least one row of {name}, but cell {segments.lengths.index(0)} has none; "
            "drop empty cells before packing."
        )


def check_same_cells(query_segments: Segments, key_segments: Segments) -> None:
    if query_segments.num_segments != key_segments.num_segments:
        raise ValueError(
            f"query and key must hold the same cells, but their segments hold {query_segments.num_segments} and "
            f"{key_segments.num_segments}; give a cell without queries the length 0."
        )


def check_alike(tensors: dict[str, Tensor]) -> None:
    """Refuse tensors that are not of one floating dtype on one device."""
    (first_name, first), *others = tensors.items()
    if not first.is_floating_point():
        raise ValueError(f"{first_name} must be floating point, not {first.dtype}; convert it with .float().")
    for name, tensor in others:
        if tensor.dtype != first.dtype or tensor.device != first.device:
            raise ValueError(
                f"{name} must be {first.dtype} on {first.device} like {first_name}, "
                f"not {tensor.dtype} on {tensor.device}; convert it with .to({first_name})."
            )


def check_shape(name: str, tensor: Tensor, shape: Sequence[int], letters: str) -> None:
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(
            f"{name} must have shape {letters} = {tuple(shape)}, not {tuple(tensor.shape)}; "
            "check the layout: rows of all cells come first, unpadded."
        )


def check_implementation(implementation: str, known: Sequence[str]) -> None:
    if implementation not in known:
        raise ValueError(f"implementation must be one of {', '.join(known)}, not {implementation!r}.")
