"""A linear layer by PyTorch's own operators."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Activation = Literal["none", "relu", "gelu"]


def linear(
    x: Float[Tensor, "*N I"],
    weight: Float[Tensor, "O I"],
    bias: Float[Tensor, "O"] | None = None,
    activation: Activation = "none",
) -> Float[Tensor, "*N O"]:
    return activate(F.linear(x, weight, bias), activation)


def activate(x: Float[Tensor, "*N O"], activation: Activation) -> Float[Tensor, "*N O"]:
    """Apply it, in place where a gradient does not need what goes in."""
    if activation == "relu":
        return F.relu(x, inplace=True)
    return F.gelu(x) if activation == "gelu" else x


def activate_(x: Float[Tensor, "*N O"], activation: Activation) -> None:
    """Apply it in place, without a gradient."""
    if activation != "none":
        x.copy_(activate(x, activation))
