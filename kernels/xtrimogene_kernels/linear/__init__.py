"""A linear layer, with the activation that may follow it."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from xtrimogene_kernels.checks import check_implementation
from xtrimogene_kernels.linear import onednn, reference
from xtrimogene_kernels.linear.reference import Activation

__all__ = ["Activation", "Implementation", "linear"]

Implementation = Literal["auto", "reference", "onednn"]

_FORMS = {"reference": reference.linear, "onednn": onednn.linear}


def linear(
    x: Float[Tensor, "*N I"],
    weight: Float[Tensor, "O I"],
    bias: Float[Tensor, "O"] | None = None,
    *,
    activation: Activation = "none",
    implementation: Implementation = "auto",
) -> Float[Tensor, "*N O"]:
    """Return ``activation(x @ weight.T + bias)``.

    Parameters
    ----------
    activation
        ``"none"``, ``"relu"`` or ``"gelu"`` (exact: by the error function).
    implementation
        ``"auto"`` is a rule: ``"onednn"`` for 32 rows or more (from eight threads on, more) in float32 on an x86
        processor, outside autocast, torch.compile, torch.func and forward-mode gradients; and ``"reference"``,
        PyTorch's own, everywhere else.
        ``"onednn"`` gives a row the same numbers whatever rows stand beside it, and has no second derivative.

    Raises
    ------
    ValueError
        ``"onednn"`` was asked for and cannot take these tensors.
    RuntimeError
        Shapes or dtypes disagree.
    """
    check_implementation(implementation, ("auto", *_FORMS))
    can_take = onednn.can_take(x, weight, bias)
    if implementation == "auto":
        implementation = "onednn" if can_take and onednn.is_faster(x) else "reference"
    elif implementation == "onednn" and not can_take:
        raise ValueError(
            "implementation='onednn' needs rows, a weight and a bias in plain float32 tensors on an x86 processor, "
            f"outside autocast, torch.compile and torch.func, not {x.dtype} and {weight.dtype} on {x.device.type}; "
            "use implementation='auto'."
        )
    return _FORMS[implementation](x, weight, bias, activation)
