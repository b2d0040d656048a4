"""What the parity tests of all kernels share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

Kernel = Callable[..., Tensor | tuple[Tensor, ...]]
VANISHING = 1e-6


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fill every torch.empty with NaN, so that a row nobody wrote cannot pass for a zero."""
    before = torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def outputs_and_gradients(kernel: Kernel, tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Run forward and backward with fixed weights, of this dtype, on the outputs; return all in float64 on the CPU."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    outputs = kernel(*leaves)
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    weights = [torch.arange(1.0, out.numel() + 1).cos().view(out.shape).to(dtype).to(out) for out in outputs]
    gradients = torch.autograd.grad(outputs, leaves, weights)
    return [tensor.detach().double().cpu() for tensor in (*outputs, *gradients)]


@pytest.fixture(scope="session")
def assert_parity() -> Callable[..., None]:
    """Error against float64: at most twice the reference's own in the same dtype, plus two rounding steps.

    A rounding step is that of the tensor's largest number. A gradient that vanishes is a difference of numbers of the
    size of the others, so there the steps are theirs. In float64 the reference is the truth; 2e-13 is allowed.
    """

    def check(
        candidate: Kernel, reference: Kernel, tensors: Sequence[Tensor], dtype: torch.dtype, roundings: int = 2
    ) -> None:
        rounded = [tensor.to(dtype) for tensor in tensors]
        truth = outputs_and_gradients(reference, [tensor.double() for tensor in rounded], dtype)
        expected = outputs_and_gradients(reference, rounded, dtype)
        if rounded[0].is_cuda:  # poisoning there would ask for deterministic cuBLAS too
            got = outputs_and_gradients(candidate, rounded, dtype)
        else:
            with poisoned_memory():
                got = outputs_and_gradients(candidate, rounded, dtype)
        assert len(got) == len(truth)
        largest = max((true.abs().max().item() for true in truth if true.numel()), default=0.0)
        for i, (true, by_reference, by_candidate) in enumerate(zip(truth, expected, got, strict=True)):
            assert by_candidate.shape == true.shape
            if true.numel() == 0:
                continue
            scale = true.abs().max().item()
            if scale < VANISHING * largest:
                scale = largest
            allowed = 2 * (by_reference - true).abs().max() + roundings * max(torch.finfo(dtype).eps, 1e-13) * scale
            error = (by_candidate - true).abs().max()  # NaN compares false
            assert error <= allowed, f"tensor {i}: {error:.2e} > {allowed:.2e}, of {scale:.2e}"

    return check
