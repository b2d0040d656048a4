"""Linear-time attention inside each cell of a packed batch: Performer, FAVOR+ with the softmax kernel."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from xtrimogene_kernels.checks import check_alike, check_implementation, check_same_cells, check_segments, check_shape
from xtrimogene_kernels.linear_attention import reference, streamed
from xtrimogene_kernels.segments import Segments

__all__ = ["Implementation", "linear_attention"]

Implementation = Literal["auto", "reference", "streamed", "triton"]

_FORMS = {"reference": reference.linear_attention, "streamed": streamed.linear_attention}
_MAX_WIDTH = 128  # of a head, for triton


def linear_attention(
    query: Float[Tensor, "M H d"],
    key: Float[Tensor, "N H d"],
    value: Float[Tensor, "N H d"],
    projection: Float[Tensor, "m d"],
    query_segments: Segments,
    key_segments: Segments,
    *,
    epsilon: float = 1e-4,
    implementation: Implementation = "auto",
) -> Float[Tensor, "M H d"]:
    """Attend from query rows to all key rows of the same cell through ``m`` random features.

    Parameters
    ----------
    query
        Rows at which the result is wanted: all of a cell, some, or none.
    key, value
        Rows of all cells one after the other; every cell needs at least one.
    projection
        Orthogonal Gaussian features. A buffer: it receives no gradient.
    query_segments, key_segments
        Where each cell begins and ends, in the query and in the key; both hold the same cells.
    epsilon
        Added to every feature after the exponential.
    implementation
        ``"auto"`` is ``"streamed"``: no tokens x features tensor of a whole cell, forward or backward; half precision
        is computed in float32. ``"triton"``: CUDA, float32, bfloat16 or float16, heads up to 128 wide; the features
        never reach memory. It is not chosen by itself as long as it has not been measured on a GPU.

    Raises
    ------
    ValueError
        Shapes, dtypes, devices or segments disagree, a cell has no key, or the implementation cannot take this dtype,
        device or width.
    ImportError
        Triton was asked for and is not installed.
    """
    if key.ndim != 3:
        raise ValueError(f"key must have shape (N, H, d), not {tuple(key.shape)}; reshape the heads out first.")
    check_alike({"query": query, "key": key, "value": value})
    check_shape("query", query, (query.shape[0], *key.shape[1:]), "(M, H, d)")
    check_shape("value", value, key.shape, "(N, H, d)")
    check_shape("projection", projection, (projection.shape[0], key.shape[-1]), "(m, d)")
    if projection.device != key.device:
        raise ValueError(f"projection must be on {key.device} like key, not {projection.device}; move it there.")
    check_segments("query", query, query_segments, allow_empty=True)
    check_segments("key", key, key_segments)
    check_same_cells(query_segments, key_segments)
    check_implementation(implementation, ("auto", *_FORMS, "triton"))
    if implementation == "triton":
        form = _triton(key)
    else:
        form = _FORMS["streamed" if implementation == "auto" else implementation]
    with torch.autocast(query.device.type, enabled=False):
        return form(query, key, value, projection, query_segments, key_segments, epsilon=epsilon)


def _triton(key: Float[Tensor, "N H d"]) -> Callable[..., Tensor]:
    if not key.is_cuda or key.dtype == torch.float64 or key.shape[-1] > _MAX_WIDTH:
        raise ValueError(
            "implementation='triton' needs float32, bfloat16 or float16 on CUDA and heads of at most "
            f"{_MAX_WIDTH}, not {key.dtype} on {key.device.type} and heads of {key.shape[-1]}; use "
            "implementation='auto'."
        )
    try:
        from xtrimogene_kernels.linear_attention import triton
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ImportError(
            "implementation='triton' needs the package triton, which is not installed; run `pip install triton`, or "
            "use implementation='auto'."
        ) from error
    return triton.linear_attention
