import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from xtrimogene_kernels import onednn
from xtrimogene_kernels.linear_attention import linear_attention, reference, streamed
from xtrimogene_kernels.segments import Segments

# (queries of each cell, keys of each cell)
LENGTHS = [((1,), (1,)), ((7,), (7,)), ((1, 33, 64), (1, 33, 64)), ((2, 0, 65), (17, 3, 130)), ((0, 5), (1, 1))]


def inputs(num_queries, num_keys, num_heads=3, width=16, num_features=21, device="cpu"):
    generator = torch.Generator().manual_seed(num_keys)
    shapes = [(num_queries, num_heads, width), *[(num_keys, num_heads, width)] * 2, (num_features, width)]
    return [torch.randn(shape, generator=generator).to(device) for shape in shapes]


def bound(kernel, projection, query_segments, key_segments, **options):
    def attend(query, key, value):
        return kernel(query, key, value, projection.to(query.dtype), query_segments, key_segments, **options)

    return attend


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("num_features", [21, 32])
@pytest.mark.parametrize("few_rows", [1, streamed.FEW_ROWS])  # heads one by one, or all at once
@pytest.mark.parametrize(("query_lengths", "key_lengths"), LENGTHS)
def test_streamed_matches_reference(
    assert_parity, monkeypatch, query_lengths, key_lengths, few_rows, num_features, dtype
):
    monkeypatch.setattr(streamed, "FEW_ROWS", few_rows)
    segments = Segments.from_lengths(query_lengths), Segments.from_lengths(key_lengths)
    *tensors, projection = inputs(sum(query_lengths), sum(key_lengths), num_features=num_features)
    projection = projection.to(dtype)  # rounded once, for the truth too
    assert_parity(
        bound(streamed.linear_attention, projection, *segments, chunk_rows=16),
        bound(reference.linear_attention, projection, *segments),
        tensors,
        dtype,
        roundings=4,  # sums in another order
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_far_from_zero_leave_the_gradients_exact(assert_parity, dtype):
    segments = Segments.from_lengths([200, 30])
    *tensors, projection = inputs(230, 230)
    tensors[2] += 20 * torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    kernels = [
        bound(kernel.linear_attention, projection.to(dtype), segments, segments) for kernel in (streamed, reference)
    ]
    assert_parity(*kernels, tensors, dtype)


def test_streamed_keeps_the_reference_gradient_where_epsilon_counts(assert_parity):
    segments = Segments.from_lengths((40, 9))
    *tensors, projection = inputs(49, 49)
    assert_parity(
        bound(linear_attention, projection, segments, segments, epsilon=0.1),
        bound(reference.linear_attention, projection, segments, segments, epsilon=0.1),
        tensors,
        torch.float64,
    )


@pytest.mark.parametrize("implementation", ["reference", "streamed"])
def test_without_epsilon_the_gradient_is_the_numerical_one(implementation):
    segments = Segments.from_lengths((3, 1))
    *tensors, projection = (tensor.double() for tensor in inputs(4, 4, num_heads=2, width=3, num_features=5))
    leaves = [tensor.requires_grad_() for tensor in tensors]
    options = {"epsilon": 0.0, "implementation": implementation}
    assert torch.autograd.gradcheck(bound(linear_attention, projection, segments, segments, **options), leaves)


@pytest.mark.parametrize("implementation", ["reference", "streamed"])
def test_one_cell_equals_the_formula_of_the_released_model(implementation):
    query, key, value, projection = (tensor.double() for tensor in inputs(6, 9))
    segments = Segments.from_lengths([6]), Segments.from_lengths([9])
    out = linear_attention(query, key, value, projection, *segments, implementation=implementation).numpy()
    q, k, v, p = (tensor.numpy() for tensor in (query, key, value, projection))

    def exponents(rows):
        scaled = rows / 16**0.25
        return np.einsum("nhd,md->nhm", scaled, p), (scaled**2).sum(-1, keepdims=True) / 2

    (uq, gq), (uk, gk) = exponents(q), exponents(k)
    phi_q = (np.exp(uq - gq - uq.max(-1, keepdims=True)) + 1e-4) / math.sqrt(21)
    phi_k = (np.exp(uk - gk - uk.max()) + 1e-4) / math.sqrt(21)
    above = np.einsum("qhm,khm,khd->qhd", phi_q, phi_k, v)
    below = np.einsum("qhm,khm->qh", phi_q, phi_k)
    np.testing.assert_allclose(out, above / below[..., None], rtol=1e-12, atol=1e-13)


def test_many_features_approach_softmax_attention():
    query, key, value, projection = inputs(20, 20, width=4, num_features=50_000)
    query, key = query / 2, key / 2  # the variance of the estimate grows as exp(|q + k|^2)
    segments = Segments.from_lengths([20])
    out = linear_attention(query, key, value, projection, segments, segments, epsilon=0.0)
    scores = torch.einsum("qhd,khd->hqk", query, key) / 2
    torch.testing.assert_close(out, torch.einsum("hqk,khd->qhd", scores.softmax(-1), value), atol=0.05, rtol=0)


@settings(max_examples=25)
@given(st.data())
def test_a_cell_ignores_its_neighbours_and_their_order(data):
    lengths = data.draw(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40)), min_size=1, max_size=5))
    order = data.draw(st.permutations(range(len(lengths))))
    num_queries, num_keys = ([pair[side] for pair in lengths] for side in (0, 1))
    query, key, value, projection = inputs(sum(num_queries), sum(num_keys))
    key *= data.draw(st.sampled_from([0.1, 1.0, 10.0]))  # a neighbour with a far larger stabilizer
    cells = list(zip(query.split(num_queries), key.split(num_keys), value.split(num_keys), strict=True))
    shuffled = [torch.cat([cells[i][side] for i in order]) for side in range(3)]
    segments = [Segments.from_lengths([numbers[i] for i in order]) for numbers in (num_queries, num_keys)]
    out = linear_attention(*shuffled, projection, *segments)
    for i, part in zip(order, out.split([num_queries[i] for i in order]), strict=True):
        alone = linear_attention(*cells[i], projection, *(Segments.from_lengths([n]) for n in lengths[i]))
        torch.testing.assert_close(part, alone, atol=1e-6, rtol=0)


def test_few_shapes_reach_onednn(monkeypatch):
    seen = set()

    def remember(a, b):
        seen.add((a.shape, b.shape))
        return a @ b.T

    monkeypatch.setattr(onednn, "product", remember)
    monkeypatch.setattr(onednn, "takes", lambda *_: True)
    for num_rows in range(300, 2_600, 7):
        query, key, value, projection = inputs(num_rows, num_rows, num_heads=1, width=32)
        segments = Segments.from_lengths([num_rows])
        streamed.linear_attention(query, key, value, projection, segments, segments, chunk_rows=1_024)
    assert {a[0] for a, b in seen if b == projection.shape} <= set(range(32, 1_025, 32))
    assert len(seen) <= 4 * 1_024 // 32


@settings(max_examples=25)
@given(num_rows=st.integers(1, 70), chunk_rows=st.integers(1, 80))
def test_chunk_size_does_not_matter(num_rows, chunk_rows):
    segments = Segments.from_lengths([num_rows])
    *tensors, projection = (tensor.double() for tensor in inputs(num_rows, num_rows))
    leaves = [tensor.requires_grad_() for tensor in tensors]
    results = []
    for rows in (chunk_rows, None):
        out = streamed.linear_attention(*leaves, projection, segments, segments, chunk_rows=rows)
        results.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)


@settings(max_examples=25)
@given(
    cuts=st.lists(st.integers(0, 70), max_size=4).map(sorted), dtype=st.sampled_from([torch.float32, torch.bfloat16])
)
def test_rows_may_come_some_at_a_time(cuts, dtype):
    segments = Segments.from_lengths([70])
    query, key, value, projection = (tensor.to(dtype) for tensor in inputs(70, 70))
    keys = streamed.KeySums(streamed.FeatureMaps(projection, 3, dtype, chunk_rows=16))
    bounds = list(zip([0, *cuts], [*cuts, 70], strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        for start, stop in bounds:
            keys.add(key[start:stop], value[start:stop])
        state = keys.state()
        out = torch.cat([state.attend(query[start:stop]) for start, stop in bounds])
    expected = linear_attention(query, key, value, projection, segments, segments)
    torch.testing.assert_close(out, expected, atol=3e-6 if dtype == torch.float32 else 1e-2, rtol=0)


@settings(max_examples=25)
@given(st.data())
def test_asking_for_some_rows_gives_those_rows(data):
    lengths = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    chosen = [data.draw(st.lists(st.integers(0, n - 1), max_size=n, unique=True)) for n in lengths]
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    rows = torch.tensor([start + i for start, some in zip(starts, chosen, strict=True) for i in some], dtype=torch.long)
    query, key, value, projection = inputs(sum(lengths), sum(lengths))
    everything = Segments.from_lengths(lengths)
    full = linear_attention(query, key, value, projection, everything, everything)
    asked = Segments.from_lengths([len(some) for some in chosen])
    out = linear_attention(query[rows], key, value, projection, asked, everything)
    torch.testing.assert_close(out, full[rows], atol=3e-6, rtol=0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("sizes", [(0.01, 12.0), (12.0, 0.01), (3.0, 6.0)])
def test_streamed_stays_exact_when_the_maximum_moves_far(assert_parity, sizes, sign):
    """Exponents above (or below) zero throughout, so that the maximum rises at every chunk, or stands at the first."""
    *tensors, projection = inputs(60, 60)
    tensors[1] = tensors[1].abs() * torch.linspace(*sizes, 60)[:, None, None]
    projection = sign * projection.abs()
    segments = Segments.from_lengths([60])
    assert_parity(
        bound(streamed.linear_attention, projection, segments, segments, chunk_rows=7),
        bound(reference.linear_attention, projection, segments, segments),
        tensors,
        torch.float32,
    )


class LargestTensor(TorchDispatchMode):
    """Records the largest number of elements that any operation returned."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for out in result if isinstance(result, tuple | list) else (result,):
            if isinstance(out, torch.Tensor):
                self.numel = max(self.numel, out.untyped_storage().nbytes() // out.element_size())
        return result


def largest_tensor(implementation):
    num_rows, num_heads, width, num_features = 3000, 2, 8, 40
    segments = Segments.from_lengths([num_rows])
    *tensors, projection = inputs(num_rows, num_rows, num_heads, width, num_features)
    leaves = [tensor.requires_grad_() for tensor in tensors]
    sizes = []
    with LargestTensor() as largest:
        out = linear_attention(*leaves, projection, segments, segments, implementation=implementation)
        sizes.append(largest.numel)
        largest.numel = 0
        out.sum().backward()
        sizes.append(largest.numel)
    return sizes, num_rows * num_heads * width, num_rows * num_heads * num_features


def test_streamed_never_makes_the_features_of_a_whole_cell():
    sizes, one_input, features = largest_tensor("streamed")
    assert sizes == [one_input, one_input]
    sizes, _, _ = largest_tensor("reference")  # the test sees what it looks for
    assert min(sizes) >= features


def test_flops_of_the_reference_are_counted():
    query, key, value, projection = inputs(12, 40)
    segments = Segments.from_lengths((2, 10)), Segments.from_lengths((10, 30))
    with FlopCounterMode(display=False) as counter:
        linear_attention(query, key, value, projection, *segments, implementation="reference")
    num_heads, width, num_features = 3, 16, 21
    queries, keys = (2 * width + 1) * 12, 2 * width * 40  # the one is the normalizer
    assert counter.get_total_flops() == 2 * num_heads * num_features * (queries + keys)


@pytest.mark.parametrize("implementation", ["reference", "streamed"])
def test_projection_gets_no_gradient(implementation):
    *tensors, projection = inputs(5, 5)
    segments = Segments.from_lengths([5])
    tensors[0].requires_grad_()
    projection.requires_grad_()
    linear_attention(*tensors, projection, segments, segments, implementation=implementation).sum().backward()
    assert projection.grad is None


@pytest.mark.parametrize("implementation", ["reference", "streamed"])
def test_autocast_does_not_reach_inside(implementation):
    arguments = (*inputs(30, 30), *[Segments.from_lengths([30])] * 2)
    expected = linear_attention(*arguments, implementation=implementation)
    with torch.autocast("cpu", torch.bfloat16):
        out = linear_attention(*arguments, implementation=implementation)
    assert torch.equal(out, expected)


def test_no_cells_give_no_rows():
    segments = Segments.from_lengths([])
    for implementation in ("reference", "streamed"):
        assert linear_attention(*inputs(0, 0), segments, segments, implementation=implementation).shape == (0, 3, 16)


def test_disagreeing_arguments_are_refused():
    unchecked = inspect.unwrap(linear_attention)  # without the shape checks that only tests switch on
    query, key, value, projection = inputs(5, 6)
    asked, segments = Segments.from_lengths([1, 4]), Segments.from_lengths([2, 4])
    with pytest.raises(ValueError, match="query has 5 rows but its segments hold 6"):
        unchecked(query, key, value, projection, segments, segments)
    with pytest.raises(ValueError, match="key has 6 rows but its segments hold 5"):
        unchecked(query, key, value, projection, asked, asked)
    with pytest.raises(ValueError, match="every cell needs at least one row of key, but cell 1 has none"):
        unchecked(query, key, value, projection, asked, Segments.from_lengths([6, 0]))
    with pytest.raises(ValueError, match="query and key must hold the same cells, but their segments hold 1 and 2"):
        unchecked(query, key, value, projection, Segments.from_lengths([5]), segments)
    with pytest.raises(ValueError, match=r"projection must have shape \(m, d\) = \(21, 16\), not \(21, 15\)"):
        unchecked(query, key, value, projection[:, 1:], asked, segments)
    with pytest.raises(ValueError, match=r"query must have shape \(M, H, d\) = \(5, 3, 16\), not \(5, 2, 16\)"):
        unchecked(query[:, :2], key, value, projection, asked, segments)
    with pytest.raises(ValueError, match=r"value must be torch.float32 on cpu like query, not torch.bfloat16"):
        unchecked(query, key, value.bfloat16(), projection, asked, segments)
    with pytest.raises(ValueError, match="implementation must be one of auto, reference, streamed, triton, not 'cuda'"):
        unchecked(query, key, value, projection, asked, segments, implementation="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("query_lengths", "key_lengths"), LENGTHS)
def test_auto_matches_reference_on_cuda(assert_parity, query_lengths, key_lengths, dtype):
    segments = Segments.from_lengths(query_lengths, "cuda"), Segments.from_lengths(key_lengths, "cuda")
    *tensors, projection = inputs(sum(query_lengths), sum(key_lengths), width=64, num_features=256, device="cuda")
    projection = projection.to(dtype)
    assert_parity(
        bound(linear_attention, projection, *segments),
        bound(reference.linear_attention, projection, *segments),
        tensors,
        dtype,
    )
