"""An encoder that is faster and less exact, on request: in bfloat16, or with int8 matrix products.

What is around it (values, gene table, pooling, latent head) stays as it is. How large the error is and what is gained:
benchmarks/precision.py. int8 is for the feed-forward parts, two thirds of the weights: with those of attention too, the
error at 100M would be 2.0 % for 1.3 %. Each row of the weights and each token has a scale of its own, its largest
magnitude / 127, so a cell still does not depend on its batch; products of int8 are summed exactly.
Letters: N tokens of all cells, packed; D width; I, O inputs and outputs of a layer.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any
from warnings import warn

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from xtrimogene.config import EncoderPrecision
from xtrimogene.errors import ConfigError
from xtrimogene.model.encoder import Encoder
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene_kernels.linear.reference import Activation, activate_
from xtrimogene_kernels.segments import Segments

CHUNK_ROWS = 256  # whose int32 sums stay in a core's cache
LARGEST = 127


def lower_precision(network: XTrimoGene, precision: EncoderPrecision, device: torch.device) -> XTrimoGene:
    """Return the network with its encoder in this precision; the network given stays as it is.

    Raises
    ------
    ConfigError
        int8 elsewhere than on a CPU, or on one whose int8 products are not exact.

    Warns
    -----
    UserWarning
        On a CPU where torch is several times slower in it than in float32: bfloat16 with AVX2 and no AVX-512, int8 on
        x86 without VNNI. Of ARM nothing is said, as nothing was measured.
    """
    if precision == "float32":
        return network
    lower = deepcopy(network)
    if device.type == "cpu" and (lacks := _lacking(precision)):
        warn(
            f"precision={precision!r} is several times slower than 'float32' on this processor, which has no {lacks}; "
            "use 'float32'.",
            stacklevel=2,
        )
    if precision == "bfloat16":
        lower.encoder = BFloat16Encoder(lower.encoder)  # type: ignore[assignment]
        return lower
    if device.type != "cpu":
        raise ConfigError(f"precision='int8' is for a CPU, not {device.type}; use 'bfloat16' there.")
    if not int8_is_exact():
        raise ConfigError("precision='int8' is not exact on this processor (no VNNI); use 'float32'.")
    for block in lower.encoder.blocks:
        for name in ("expand", "contract"):
            setattr(block, name, Int8Linear(getattr(block, name)))
    return lower


def _lacking(precision: EncoderPrecision) -> str | None:
    """Name the instructions without which this precision is slow, where the processor has none of them."""
    if precision == "bfloat16":
        return "AVX-512" if torch.backends.cpu.get_cpu_capability() == "AVX2" else None
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch that we allow
    vnni = any(found.get(name) for name in ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"))
    return None if vnni or found.get("architecture") != "x86_64" else "VNNI"


class BFloat16Encoder(nn.Module):
    """Weights, products and residuals in bfloat16; tokens come and go in float32."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.to(torch.bfloat16)

    def forward(self, x: Float[Tensor, "N D"], segments: Segments) -> Float[Tensor, "N D"]:
        return self.encoder(x.to(torch.bfloat16), segments).to(x.dtype)


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, for inference."""

    weight: Int8[Tensor, "I O"]
    scale: Float[Tensor, "O"]
    bias: Float[Tensor, "O"]

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = to_int8(linear.weight.detach())
        self.register_buffer("weight", weight.T)
        self.register_buffer("scale", scale[:, 0])
        self.register_buffer("bias", linear.bias.detach())

    def forward(self, x: Float[Tensor, "N I"], activation: Activation = "none") -> Float[Tensor, "N O"]:
        out = x.new_empty(len(x), len(self.scale))
        for rows, target in zip(torch.split(x, CHUNK_ROWS), torch.split(out, CHUNK_ROWS), strict=True):
            tokens, scale = to_int8(rows)
            target.copy_(torch._int_mm(tokens, self.weight)).mul_(scale)
            activate_(torch.addcmul(self.bias, target, self.scale, out=target), activation)
        return out


def to_int8(rows: Float[Tensor, "N I"]) -> tuple[Int8[Tensor, "N I"], Float[Tensor, "N 1"]]:
    largest = torch.maximum(rows.amax(-1, keepdim=True), rows.amin(-1, keepdim=True).neg_())
    scale = largest.clamp_(min=torch.finfo(rows.dtype).tiny) / LARGEST
    return (rows / scale).round_().to(torch.int8), scale


def int8_is_exact() -> bool:
    """Whether the largest products are summed right: processors without VNNI may saturate at 16 bits."""
    rows = torch.full((32, 64), LARGEST, dtype=torch.int8)
    return bool((torch._int_mm(rows, rows.T.contiguous()) == 64 * LARGEST**2).all())
