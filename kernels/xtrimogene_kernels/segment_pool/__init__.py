"""Pool the rows of each cell of a packed batch into one row."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from xtrimogene_kernels.checks import check_implementation, check_segments
from xtrimogene_kernels.segment_pool import at_once, fused, reference
from xtrimogene_kernels.segments import Segments

__all__ = ["Implementation", "segment_pool"]

Implementation = Literal["auto", "reference", "fused", "at_once"]

_FORMS = {"reference": reference.segment_pool, "fused": fused.segment_pool, "at_once": at_once.segment_pool}


def segment_pool(
    tokens: Float[Tensor, "N D"], segments: Segments, *, implementation: Implementation = "auto"
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """Return the maximum and the mean over the rows of each cell.

    Parameters
    ----------
    tokens
        Rows of all cells one after the other; every cell needs at least one.
    segments
        Where each cell begins and ends.
    implementation
        ``"auto"`` is ``"at_once"`` on CUDA, else ``"fused"``. In every form, rows that tie for a maximum share its
        gradient evenly.

    Raises
    ------
    ValueError
        Shapes, devices or segments disagree, or a cell has no row.
    """
    if tokens.ndim != 2 or not tokens.is_floating_point():
        raise ValueError(
            f"tokens must be floating point of shape (N, D), not {tokens.dtype} of {tuple(tokens.shape)}; "
            "pass the packed rows of all cells."
        )
    check_segments("tokens", tokens, segments)
    check_implementation(implementation, ("auto", *_FORMS))
    if implementation == "auto":
        implementation = "at_once" if tokens.is_cuda else "fused"
    return _FORMS[implementation](tokens, segments)
