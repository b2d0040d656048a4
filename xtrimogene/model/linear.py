"""The linear layer of the networks here: PyTorch's in all but speed."""

from jaxtyping import Float
from torch import Tensor, nn

from xtrimogene_kernels.linear import Activation, linear


class Linear(nn.Linear):
    """May apply the activation that follows it, which costs less than doing so afterwards; hooks see what it gives."""

    def forward(self, x: Float[Tensor, "*N I"], activation: Activation = "none") -> Float[Tensor, "*N O"]:
        return linear(x, self.weight, self.bias, activation=activation)
