"""Masked regression: squared error at the hidden positions, zero and non-zero alike."""

from jaxtyping import Float
from torch import Tensor


def masked_regression_loss(predicted: Float[Tensor, "M"], targets: Float[Tensor, "M"]) -> Float[Tensor, ""]:
    """Mean squared error over the hidden positions, in float32."""
    return (predicted.float() - targets).square().mean()
