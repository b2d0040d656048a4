"""Linear-time attention inside each cell of a packed batch: Performer, FAVOR+ with the softmax kernel."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from xtrimogene_kernels.checks import check_alike, check_implementation, check_same_cells, check_segments, check_shape
from xtrimogene_kernels.linear_attention import reference, streamed
from xtrimogene_kernels.segments import Segments

__all__ = ["Implementation", "linear_attention"]

Implementation = Literal["auto", "reference", "streamed"]

_FORMS = {"reference": reference.linear_attention, "streamed": streamed.linear_attention}


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
        ``"auto"`` is ``"streamed"``: no tokens x features tensor of a whole cell, forward or backward.
        Half precision is computed in float32.

    Raises
    ------
    ValueError
        Shapes, dtypes, devices or segments disagree, or a cell has no key.
    """
    if key.ndim != 3:
        raise ValueError(f"key must have shape (N, H, d), not {tuple(key.shape)}; reshape the heads out first.")
    check_alike({"query": query, "key": key, "value": value})
    check_shape("query", query, (query.shape[0], *key.shape[1:]), "(M, H, d)")
    check_shape("value", value, key.shape, "(N, H, d)")
    check_shape("projection", projection, (projection.shape[0], key.shape[-1]), "(m, d)")
    check_segments("query", query, query_segments, allow_empty=True)
    check_segments("key", key, key_segments)
    check_same_cells(query_segments, key_segments)
    check_implementation(implementation, ("auto", *_FORMS))
    form = _FORMS["streamed" if implementation == "auto" else implementation]
    with torch.autocast(query.device.type, enabled=False):
        return form(query, key, value, projection, query_segments, key_segments, epsilon=epsilon)
