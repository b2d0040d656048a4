import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from xtrimogene_kernels.segment_pool import at_once, fused, reference, segment_pool
from xtrimogene_kernels.segments import Segments

IMPLEMENTATIONS = ["reference", "fused", "at_once"]
LENGTHS = [(1,), (7,), (1, 1, 1), (17, 1, 33, 64), (127, 5), (128, 65, 700)]


def rows_of(num_rows, dim=5, device="cpu"):
    return torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(num_rows)).to(device)


def pooled(kernel, segments):
    return lambda tokens: kernel(tokens, segments)


@pytest.mark.parametrize("form", [fused, at_once])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_forms_match_reference(assert_parity, lengths, dtype, form):
    segments = Segments.from_lengths(lengths)
    tokens = rows_of(segments.num_rows)
    # Rounding makes ties; the truth must see the same ones.
    tokens = tokens.to(dtype).to(torch.float32)
    kernels = pooled(form.segment_pool, segments), pooled(reference.segment_pool, segments)
    assert_parity(*kernels, [tokens], dtype)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_maximum_and_mean_of_each_cell(implementation):
    tokens = torch.tensor([[1.0, -9.0], [3.0, -5.0], [7.0, 7.0]])
    largest, mean = segment_pool(tokens, Segments.from_lengths([2, 1]), implementation=implementation)
    assert largest.tolist() == [[3.0, -5.0], [7.0, 7.0]]
    assert mean.tolist() == [[2.0, -7.0], [7.0, 7.0]]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_ties_share_the_gradient_of_the_maximum(implementation):
    tokens = torch.tensor([[2.0], [2.0], [0.0], [1.0]], requires_grad=True)
    largest, mean = segment_pool(tokens, Segments.from_lengths([3, 1]), implementation=implementation)
    (largest.sum() * 10 + mean.sum() * 3).backward()
    assert tokens.grad.flatten().tolist() == [6.0, 6.0, 1.0, 13.0]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gradient_is_the_numerical_one(implementation):
    segments = Segments.from_lengths([3, 1, 2])
    tokens = rows_of(6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: segment_pool(rows, segments, implementation=implementation), tokens)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(max_examples=25)
@given(data=st.data())
def test_a_cell_ignores_its_neighbours_and_their_order(implementation, data):
    lengths = data.draw(st.lists(st.integers(1, 150), min_size=1, max_size=6))
    order = data.draw(st.permutations(range(len(lengths))))
    cells = rows_of(sum(lengths)).split(lengths)
    shuffled = torch.cat([cells[i] for i in order])
    segments = Segments.from_lengths([lengths[i] for i in order])
    largest, mean = segment_pool(shuffled, segments, implementation=implementation)
    for row, i in enumerate(order):
        torch.testing.assert_close(largest[row], cells[i].max(0).values, atol=0, rtol=0)
        torch.testing.assert_close(mean[row], cells[i].sum(0) / lengths[i], atol=1e-6, rtol=0)
        alone = segment_pool(cells[i], Segments.from_lengths([lengths[i]]), implementation=implementation)
        assert torch.equal(alone[0][0], largest[row]) and torch.equal(alone[1][0], mean[row])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_cells_give_no_rows(implementation):
    tokens = rows_of(0).requires_grad_()
    largest, mean = segment_pool(tokens, Segments.from_lengths([]), implementation=implementation)
    assert largest.shape == mean.shape == (0, 5)


def test_disagreeing_arguments_are_refused():
    unchecked = inspect.unwrap(segment_pool)  # without the shape checks that only tests switch on
    tokens = rows_of(6)
    with pytest.raises(ValueError, match="tokens has 6 rows but its segments hold 5"):
        unchecked(tokens, Segments.from_lengths([2, 3]))
    with pytest.raises(ValueError, match="every cell needs at least one row of tokens, but cell 0 has none"):
        unchecked(tokens, Segments.from_lengths([0, 6]))
    with pytest.raises(ValueError, match=r"tokens must be floating point of shape \(N, D\), not torch.int64"):
        unchecked(tokens.long(), Segments.from_lengths([6]))
    with pytest.raises(ValueError, match="implementation must be one of auto, reference, fused, at_once"):
        unchecked(tokens, Segments.from_lengths([6]), implementation="triton")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_auto_matches_reference_on_cuda(assert_parity, lengths, dtype):
    segments = Segments.from_lengths(lengths, "cuda")
    kernels = pooled(segment_pool, segments), pooled(reference.segment_pool, segments)
    assert_parity(*kernels, [rows_of(segments.num_rows, device="cuda")], dtype)


def gradient(pooled, tokens):
    return torch.autograd.grad(pooled, tokens, [torch.ones_like(part) for part in pooled])[0]


class Calls(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.names.append(str(operator))
        return operator(*args, **(kwargs or {}))


def calls_for(num_cells, implementation, device="cpu"):
    segments = Segments.from_lengths([100] * num_cells, device)
    tokens = rows_of(segments.num_rows, device=device).requires_grad_()
    with Calls() as calls:
        gradient(segment_pool(tokens, segments, implementation=implementation), tokens)
    return len(calls.names)


def test_at_once_takes_as_many_calls_for_many_cells():
    assert calls_for(40, "at_once") == calls_for(4, "at_once")
    assert calls_for(40, "fused") > 2 * calls_for(4, "fused")


@pytest.mark.gpu
def test_cuda_takes_as_many_calls_for_many_cells_and_gives_the_same_bits():
    assert calls_for(40, "auto", "cuda") == calls_for(4, "auto", "cuda")
    segments = Segments.from_lengths([300] * 40, "cuda")
    tokens = rows_of(segments.num_rows, device="cuda").round(decimals=1).requires_grad_()  # with ties
    once, again = (segment_pool(tokens, segments) for _ in range(2))
    assert all(map(torch.equal, (*once, gradient(once, tokens)), (*again, gradient(again, tokens))))
