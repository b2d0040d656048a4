import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from xtrimogene_kernels.value_embedding import distinct, reference, value_embedding

NUM_BINS, DIM = 13, 7


def weights(device="cpu"):
    generator = torch.Generator().manual_seed(0)
    shapes = [(NUM_BINS, 1), (NUM_BINS,), (NUM_BINS, NUM_BINS), (NUM_BINS,), (NUM_BINS, DIM)]
    return [torch.randn(shape, generator=generator).to(device) for shape in shapes]


def expression(num_values, num_distinct=9, device="cpu"):
    generator = torch.Generator().manual_seed(num_values)
    levels = torch.rand(num_distinct, generator=generator) * 7
    levels[0] = 0.0
    return levels[torch.randint(num_distinct, (num_values,), generator=generator)].to(device)


def embedding_of(kernel, values, **options):
    return lambda *weights: kernel(values, *weights, **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("num_values", [1, 2, 33, 1000])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_distinct_matches_reference(assert_parity, num_values, alpha, dtype):
    values = expression(num_values)
    assert_parity(
        embedding_of(distinct.value_embedding, values, alpha=alpha),
        embedding_of(reference.value_embedding, values, alpha=alpha),
        weights(),
        dtype,
    )


def test_reference_is_the_published_formula():
    in_weight, in_bias, mix_weight, mix_bias, bins = (weight.double() for weight in weights())
    for value in (0.0, 0.3, 6.5):
        hidden = in_weight[:, 0] * value + in_bias
        hidden = torch.where(hidden > 0, hidden, 0.1 * hidden)
        scores = torch.exp(0.7 * hidden + mix_weight @ hidden + mix_bias)
        out = reference.value_embedding(
            torch.tensor([value]), in_weight, in_bias, mix_weight, mix_bias, bins, alpha=0.7
        )
        # The value itself is a float32.
        torch.testing.assert_close(out[0], (scores / scores.sum()) @ bins, rtol=1e-6, atol=1e-6)


@settings(max_examples=40)
@given(
    levels=st.lists(st.floats(0, 12, width=32), min_size=1, max_size=20),
    order=st.data(),
)
def test_a_value_is_embedded_alike_in_every_batch(levels, order):
    positions = order.draw(st.lists(st.integers(0, len(levels) - 1), min_size=1, max_size=60))
    together = value_embedding(torch.tensor([levels[i] for i in positions]), *weights())
    for row, i in enumerate(positions):
        alone = value_embedding(torch.tensor([levels[i]]), *weights())[0]
        torch.testing.assert_close(together[row], alone, atol=1e-6, rtol=0)
        assert torch.equal(together[row], together[positions.index(i)])


def test_neighbouring_levels_stay_apart_beside_bfloat16_weights():
    values = torch.tensor([4.0, 4.0 + 2**-9])  # one bfloat16
    out = value_embedding(values, *(weight.bfloat16() for weight in weights()))
    assert out.dtype == torch.bfloat16
    expected = value_embedding(values, *(weight.bfloat16().float() for weight in weights()))
    torch.testing.assert_close(out, expected.bfloat16())
    assert not torch.equal(expected[0], expected[1])


def test_backward_sums_in_float32():
    values = torch.full((10_000,), 1.5)
    leaves = [weight.bfloat16().requires_grad_() for weight in weights()]
    value_embedding(values, *leaves).sum().backward()
    bins = leaves[-1]
    # Every row of the bins receives 10,000 times its share; bfloat16 sums of ones stall at 256.
    torch.testing.assert_close(bins.grad.sum(0), torch.full((DIM,), 10_000.0).bfloat16(), rtol=0.02, atol=0)


def test_the_gradient_of_values_is_not_lost():
    values = expression(5).requires_grad_()
    value_embedding(values, *weights()).square().sum().backward()
    assert (values.grad != 0).all()
    with pytest.raises(ValueError, match="'distinct' has no gradient for the values"):
        value_embedding(values, *weights(), implementation="distinct")
    with torch.no_grad():
        value_embedding(values, *weights(), implementation="distinct")


def test_auto_embeds_distinct_values_once():
    with FlopCounterMode(display=False) as counter:
        value_embedding(expression(1000, num_distinct=9), *weights())
    per_value = 2 * (NUM_BINS + NUM_BINS**2 + NUM_BINS * DIM)
    assert counter.get_total_flops() == 9 * per_value
    with FlopCounterMode(display=False) as counter:
        value_embedding(expression(1000), *weights(), implementation="reference")
    assert counter.get_total_flops() == 1000 * per_value


@pytest.mark.parametrize("implementation", ["reference", "distinct"])
def test_no_values_give_no_rows(implementation):
    assert value_embedding(torch.empty(0), *weights(), implementation=implementation).shape == (0, DIM)


@pytest.mark.parametrize("implementation", ["reference", "distinct"])
def test_autocast_does_not_reach_inside(implementation):
    values = expression(20)
    expected = value_embedding(values, *weights(), implementation=implementation)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(value_embedding(values, *weights(), implementation=implementation), expected)


def test_disagreeing_arguments_are_refused():
    unchecked = inspect.unwrap(value_embedding)  # without the shape checks that only tests switch on
    values, (in_weight, in_bias, mix_weight, mix_bias, bins) = expression(4), weights()
    with pytest.raises(ValueError, match=r"values must have shape \(N,\) = \(4,\), not \(4, 1\)"):
        unchecked(values[:, None], in_weight, in_bias, mix_weight, mix_bias, bins)
    with pytest.raises(ValueError, match="values must be floating point on cpu, not torch.int64 on cpu"):
        unchecked(values.long(), in_weight, in_bias, mix_weight, mix_bias, bins)
    with pytest.raises(ValueError, match=r"in_weight must have shape \(K, 1\) = \(13, 1\), not \(1, 13\)"):
        unchecked(values, in_weight.T, in_bias, mix_weight, mix_bias, bins)
    with pytest.raises(ValueError, match=r"mix_bias must have shape \(K,\) = \(13,\), not \(12,\)"):
        unchecked(values, in_weight, in_bias, mix_weight, mix_bias[1:], bins)
    with pytest.raises(ValueError, match=r"mix_weight must be torch.float32 on cpu like bins, not torch.float64"):
        unchecked(values, in_weight, in_bias, mix_weight.double(), mix_bias, bins)
    with pytest.raises(ValueError, match="implementation must be one of auto, reference, distinct"):
        unchecked(values, in_weight, in_bias, mix_weight, mix_bias, bins, implementation="table")


@pytest.mark.gpu
@pytest.mark.parametrize("implementation", ["auto", "distinct"])
def test_matches_reference_on_cuda(assert_parity, implementation):
    values = expression(500, device="cuda")
    assert_parity(
        embedding_of(value_embedding, values, implementation=implementation),
        embedding_of(reference.value_embedding, values),
        weights("cuda"),
        torch.float32,
    )
