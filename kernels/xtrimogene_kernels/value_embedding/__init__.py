"""Embed real-valued expression levels as soft mixes of learned bins."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from xtrimogene_kernels.checks import check_alike, check_implementation, check_shape
from xtrimogene_kernels.value_embedding import distinct, reference

__all__ = ["Implementation", "value_embedding"]

Implementation = Literal["auto", "reference", "distinct"]

_FORMS = {"reference": reference.value_embedding, "distinct": distinct.value_embedding}


def value_embedding(
    values: Float[Tensor, "N"],
    in_weight: Float[Tensor, "K 1"],
    in_bias: Float[Tensor, "K"],
    mix_weight: Float[Tensor, "K K"],
    mix_bias: Float[Tensor, "K"],
    bins: Float[Tensor, "K D"],
    *,
    alpha: float = 1.0,
    implementation: Implementation = "auto",
) -> Float[Tensor, "N D"]:
    """Return ``softmax(alpha * h + mix(h)) @ bins`` for every value, with ``h = leaky_relu(in(value), 0.1)``.

    Parameters
    ----------
    values
        Expression levels, log1p of counts per 10,000. May be float32 beside half-precision weights.
    in_weight, in_bias, mix_weight, mix_bias
        The two linear layers from a value to the scores of the bins.
    bins
        One row per bin; its dtype is the dtype of the result.
    alpha
        Weight of the skip connection.
    implementation
        ``"auto"`` is a rule: ``"distinct"`` (each distinct value once) on a CPU; ``"reference"`` elsewhere, where
        finding the distinct values would make the host wait, and for values that want a gradient.

    Raises
    ------
    ValueError
        Shapes, dtypes or devices disagree, or ``"distinct"`` is asked for a gradient of the values.
    """
    num_bins = bins.shape[0]
    check_shape("values", values, (values.numel(),), "(N,)")
    check_shape("bins", bins, (num_bins, bins.shape[-1]), "(K, D)")
    check_shape("in_weight", in_weight, (num_bins, 1), "(K, 1)")
    check_shape("in_bias", in_bias, (num_bins,), "(K,)")
    check_shape("mix_weight", mix_weight, (num_bins, num_bins), "(K, K)")
    check_shape("mix_bias", mix_bias, (num_bins,), "(K,)")
    check_alike(
        {"bins": bins, "in_weight": in_weight, "in_bias": in_bias, "mix_weight": mix_weight, "mix_bias": mix_bias}
    )
    if not values.is_floating_point() or values.device != bins.device:
        raise ValueError(
            f"values must be floating point on {bins.device}, not {values.dtype} on {values.device}; "
            "convert them with .to(bins)."
        )
    check_implementation(implementation, ("auto", *_FORMS))
    wants_gradient = values.requires_grad and torch.is_grad_enabled()
    if implementation == "auto":
        implementation = "distinct" if values.device.type == "cpu" and not wants_gradient else "reference"
    if implementation == "distinct" and wants_gradient:
        raise ValueError("implementation='distinct' has no gradient for the values; use implementation='auto'.")
    with torch.autocast(bins.device.type, enabled=False):
        return _FORMS[implementation](values, in_weight, in_bias, mix_weight, mix_bias, bins, alpha=alpha)
