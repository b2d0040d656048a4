"""The Triton kernels on the CPU, through Triton's interpreter, and on CUDA where there is one."""

import inspect

import pytest
import torch

from xtrimogene_kernels.linear_attention import linear_attention, reference
from xtrimogene_kernels.segments import Segments

triton = pytest.importorskip("xtrimogene_kernels.linear_attention.triton", reason="needs triton", exc_type=ImportError)

# (queries of each cell, keys of each cell)
LENGTHS = [((1,), (1,)), ((1, 33, 64), (1, 33, 64)), ((2, 0, 65), (17, 3, 200)), ((0, 5), (1, 1)), ((0, 0), (3, 2))]
interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without CUDA")


@pytest.fixture(autouse=True)
def short_spans(monkeypatch):
    monkeypatch.setattr(triton, "SPAN_ROWS", 160)  # so that cells of a test have several, the first of several tiles


def inputs(num_queries, num_keys, num_heads=2, width=16, num_features=21, device="cpu"):
    generator = torch.Generator().manual_seed(num_keys)
    shapes = [(num_queries, num_heads, width), *[(num_keys, num_heads, width)] * 2, (num_features, width)]
    return [torch.randn(shape, generator=generator).to(device) for shape in shapes]


def bound(kernel, projection, query_segments, key_segments, **options):
    def attend(query, key, value):
        return kernel(query, key, value, projection.to(query.dtype), query_segments, key_segments, **options)

    return attend


def both(projection, query_segments, key_segments, **options):
    arguments = (projection, query_segments, key_segments)
    return [bound(kernel.linear_attention, *arguments, **options) for kernel in (triton, reference)]


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("num_features", [21, 130])  # within a tile, and over several
@pytest.mark.parametrize(("query_lengths", "key_lengths"), LENGTHS)
def test_matches_reference(assert_parity, query_lengths, key_lengths, num_features, dtype):
    segments = Segments.from_lengths(query_lengths), Segments.from_lengths(key_lengths)
    *tensors, projection = inputs(sum(query_lengths), sum(key_lengths), num_features=num_features)
    assert_parity(*both(projection.to(dtype), *segments), tensors, dtype)


@interpreted
def test_half_precision_rows_with_a_float32_projection(assert_parity):
    segments = Segments.from_lengths([70, 5])
    *tensors, projection = inputs(75, 75)

    def attend(kernel):
        def with_precise_projection(query, key, value):
            wide = torch.promote_types(query.dtype, torch.float32)
            return kernel.linear_attention(query, key, value, projection.to(wide), segments, segments)

        return with_precise_projection

    assert_parity(attend(triton), attend(reference), tensors, torch.float16)


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("width", [3, 24, 64, 128])
def test_any_width_of_a_head(assert_parity, width, dtype):
    segments = Segments.from_lengths([70, 5])
    *tensors, projection = inputs(75, 75, num_heads=1, width=width)
    assert_parity(*both(projection.to(dtype), segments, segments), tensors, dtype)


@interpreted
def test_keeps_the_reference_gradient_where_epsilon_counts(assert_parity):
    segments = Segments.from_lengths((40, 9, 100))
    *tensors, projection = inputs(149, 149)
    assert_parity(*both(projection, segments, segments, epsilon=0.1), tensors, torch.float32)


@interpreted
@pytest.mark.parametrize(("sign", "dtype"), [(1, torch.float32), (-1, torch.float32), (1, torch.float16)])
@pytest.mark.parametrize("sizes", [(0.01, 12.0), (12.0, 0.01)])
def test_stays_exact_when_the_maximum_moves_far(assert_parity, sizes, sign, dtype):
    """Exponents above (or below) zero throughout, so that the maximum rises at every tile, or stands at the first."""
    *tensors, projection = inputs(200, 200)
    tensors[1] = tensors[1].abs() * torch.linspace(*sizes, 200)[:, None, None]
    segments = Segments.from_lengths([200])
    assert_parity(*both((sign * projection.abs()).to(dtype), segments, segments), tensors, dtype)


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_values_far_from_zero_leave_the_gradients_exact(assert_parity, dtype):
    segments = Segments.from_lengths([200, 30])
    *tensors, projection = inputs(230, 230)
    tensors[2] += 20 * torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    assert_parity(*both(projection.to(dtype), segments, segments), tensors, dtype)


@interpreted
def test_a_cell_has_the_same_bits_whatever_its_neighbours():
    lengths = (70, 3, 130)
    cells = [inputs(n, n)[:3] for n in lengths]
    cells[1][1] *= 10  # a neighbour with a far larger stabilizer
    projection = inputs(1, 1)[3]
    for order in ((0, 1, 2), (2, 0, 1)):
        rows = [torch.cat([cells[i][side] for i in order]) for side in range(3)]
        segments = Segments.from_lengths([lengths[i] for i in order])
        out = triton.linear_attention(*rows, projection, segments, segments)
        for i, part in zip(order, out.split(list(segments.lengths)), strict=True):
            alone = Segments.from_lengths([lengths[i]])
            assert torch.equal(part, triton.linear_attention(*cells[i], projection, alone, alone))


@interpreted
def test_rows_may_be_views_of_one_projection():
    together, projection = torch.randn(90, 3, 2, 16, generator=torch.Generator().manual_seed(0)), inputs(1, 1)[3]
    segments = Segments.from_lengths([90])
    grads = []
    for contiguous in (False, True):
        leaf = together.clone().requires_grad_()
        rows = [part.contiguous() if contiguous else part for part in leaf.unbind(1)]
        triton.linear_attention(*rows, projection, segments, segments).cos().sum().backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)


def test_refused_where_it_cannot_run():
    arguments = (*inputs(5, 5), *[Segments.from_lengths([5])] * 2)
    with pytest.raises(ValueError, match="implementation='triton' needs float32.*on CUDA.*not torch.float32 on cpu"):
        inspect.unwrap(linear_attention)(*arguments, implementation="triton")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("width", "num_features"), [(16, 256), (64, 266), (128, 256)])
@pytest.mark.parametrize(("query_lengths", "key_lengths"), [*LENGTHS, ((500, 9000), (5000, 9000))])
def test_matches_reference_on_cuda(assert_parity, query_lengths, key_lengths, width, num_features, dtype):
    segments = Segments.from_lengths(query_lengths, "cuda"), Segments.from_lengths(key_lengths, "cuda")
    *tensors, projection = inputs(sum(query_lengths), sum(key_lengths), 2, width, num_features, "cuda")
    chosen = bound(linear_attention, projection.to(dtype), *segments, implementation="triton")
    assert_parity(chosen, both(projection.to(dtype), *segments)[1], tensors, dtype)
