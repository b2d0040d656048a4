"""Are a GPU's numbers right? Kernels and a network beside float64: for benchmarks/gpu_report.py.

"error" is the largest difference from float64 over the largest number of the output or gradient; a kernel is allowed
four times the error of its reference in the same dtype and two rounding steps. Both are of the output or gradient that
comes nearest to what is allowed.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from xtrimogene.config import ModelConfig
from xtrimogene.data.packed_cells import pack_cells
from xtrimogene.model.lower_precision import lower_precision
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene_kernels.linear_attention import linear_attention
from xtrimogene_kernels.segments import Segments
from xtrimogene_kernels.varlen_attention import varlen_attention

HALVES = (torch.bfloat16, torch.float16)
LINEAR_SHAPES = ((16, 256), (64, 266), (128, 256))  # width of a head, features
NETWORK_ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 3e-2}  # a CPU is off by 5e-7 and 5e-3


def linear_attention_parity(device: torch.device, form: str, *, small: bool) -> dict[str, Any]:
    lengths = (3, 70) if small else (1, 257, 19_266)
    result = {}
    for width, features in LINEAR_SHAPES:
        tensors = [torch.randn(sum(lengths), 2, width, device=device) for _ in range(3)]
        tensors[2] += 5.0 * torch.randn(2, width, device=device)  # as where the value's layer has a bias
        projection = torch.randn(features, width, device=device)
        for dtype in (torch.float32, *HALVES):
            for own in {dtype, torch.float32}:  # the projection's: float32 beside half-precision rows is autocast
                attend = partial(_attend_linearly, segments=Segments.from_lengths(lengths, device))
                attend = partial(attend, projection=projection.to(own))
                both = partial(attend, name=form), partial(attend, name="reference")
                name = f"{form}, {width} x {features}, {str(dtype)[6:]}, projection {str(own)[6:]}"
                try:
                    result[name] = compare(*both, tensors, dtype)
                except Exception as error:  # noqa: BLE001  what does not compile is no reason to skip the others
                    result[name] = {"failed": f"{type(error).__name__}: {error}"}
    return result


def _attend_linearly(*rows: Tensor, projection: Tensor, segments: Segments, name: str) -> Tensor:
    wide = projection.to(torch.promote_types(rows[0].dtype, projection.dtype))  # as precise as the truth's rows
    return linear_attention(*rows, wide, segments, segments, implementation=name)


def varlen_attention_parity(device: torch.device, *, small: bool) -> dict[str, Any]:
    lengths = (3, 70) if small else (1, 64, 192, 1_500, 4_000)
    segments = Segments.from_lengths(lengths, device)
    result = {}
    for dtype in (torch.float32, *HALVES):
        tensors = [torch.randn(sum(lengths), 4, 64, device=device) for _ in range(3)]
        forms = [partial(_attend, segments=segments, name=name) for name in ("auto", "reference")]
        result[f"auto, {str(dtype)[6:]}"] = compare(*forms, tensors, dtype)
    return result


def _attend(*rows: Tensor, segments: Segments, name: str) -> Tensor:
    return varlen_attention(*rows, segments, segments, implementation=name)


def compare(
    form: Callable[..., Tensor], reference: Callable[..., Tensor], tensors: list[Tensor], dtype: torch.dtype
) -> dict[str, Any]:
    rounded = [tensor.to(dtype) for tensor in tensors]
    truth = outputs_and_gradients(reference, [tensor.double() for tensor in rounded], dtype)
    found = outputs_and_gradients(form, rounded, dtype)
    by_reference = outputs_and_gradients(reference, rounded, dtype)
    worst: tuple[float, float] = (0.0, 1.0)
    for true, got, expected in zip(truth, found, by_reference, strict=True):
        scale = true.abs().max().clamp(min=1e-30)
        error = float((got - true).abs().max() / scale)
        allowed = float(4 * (expected - true).abs().max() / scale) + 2 * torch.finfo(dtype).eps
        if not error / allowed <= worst[0] / worst[1]:  # NaN is the worst
            worst = error, allowed
    return {"passes": worst[0] <= worst[1], "error": worst[0], "allowed": worst[1]}


def outputs_and_gradients(kernel: Callable[..., Tensor], tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    out = kernel(*leaves)
    weights = torch.arange(1.0, out.numel() + 1, device=out.device).cos().view(out.shape)
    gradients = torch.autograd.grad(out, leaves, weights.to(dtype).to(out))  # rounded once, for the truth too
    return [tensor.detach().double() for tensor in (out, *gradients)]


def network_parity(device: torch.device, config: ModelConfig, counts: sparse.csr_matrix) -> dict[str, Any]:
    """Cell embeddings and predictions of a network, each dtype beside float64 on the CPU: relative error by norm."""
    network = XTrimoGene(config).eval().requires_grad_(False)
    cells = pack_cells(counts)
    asked = torch.from_numpy(np.tile(np.arange(0, config.num_genes, 7), counts.shape[0]))
    segments = Segments.from_lengths([len(asked) // counts.shape[0]] * counts.shape[0])

    def answers(place: torch.device, dtype: torch.dtype) -> list[Tensor]:
        here = deepcopy(network).to(place, dtype)
        if dtype == torch.bfloat16:
            here = lower_precision(deepcopy(network).to(place), "bfloat16", place)  # as `Inference` does
        packed = cells.to(place)
        packed = here.append_read_depth(packed, packed.totals.log10(), packed.totals.log10())
        with torch.inference_mode():
            tokens = here.encode(packed)
            decoded = here.head(here.decode(tokens, packed, asked.to(place), segments.to(place)))
            return [here.pool(tokens, packed, "all").double().cpu(), decoded.double().cpu()]

    truth = answers(torch.device("cpu"), torch.float64)
    result = {}
    for dtype, allowed in NETWORK_ALLOWED.items():
        found = answers(device, dtype)
        errors = [float((got - true).norm() / true.norm()) for got, true in zip(found, truth, strict=True)]
        result[str(dtype)[6:]] = {
            "passes": all(error <= allowed for error in errors),  # NaN does not
            "embedding error": errors[0],
            "prediction error": errors[1],
            "allowed": allowed,
        }
    return result
