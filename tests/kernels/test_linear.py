import inspect
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xtrimogene_kernels import onednn
from xtrimogene_kernels.linear import linear
from xtrimogene_kernels.linear import onednn as form
from xtrimogene_kernels.linear.reference import linear as reference

ONEDNN = pytest.mark.skipif(not onednn.takes(torch.ones(1)), reason="oneDNN's products are for x86 processors")


def layer(num_rows, width=24, out_width=40):
    generator = torch.Generator().manual_seed(num_rows)
    shapes = ((num_rows, width), (out_width, width), (out_width,))
    return [torch.randn(*shape, generator=generator) for shape in shapes]


@ONEDNN
@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
@pytest.mark.parametrize("num_rows", [1, 32, 33, 100, 512, 513, 1_100])
def test_onednn_matches_the_reference(assert_parity, num_rows, activation):
    assert_parity(
        partial(linear, activation=activation, implementation="onednn"),
        partial(reference, activation=activation),
        layer(num_rows),
        torch.float32,
        roundings=8,  # its sums run in another order
    )


@ONEDNN
@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
def test_an_activation_is_the_same_with_and_without_a_gradient(activation):
    x, weight, bias = layer(70)
    with torch.inference_mode():
        fused = linear(x, weight, bias, activation=activation)
    after = linear(x, weight.requires_grad_(), bias, activation=activation)
    torch.testing.assert_close(fused, after.detach(), rtol=1e-6, atol=1e-6)


@ONEDNN
@settings(max_examples=25)
@given(st.data())
def test_a_row_is_the_same_whatever_rows_stand_beside_it(data):
    x, weight, bias = layer(1_200)
    start = data.draw(st.integers(0, 1_100))
    stop = data.draw(st.integers(start + 32, min(1_200, start + 700)))
    some = linear(x[start:stop], weight, bias, implementation="onednn")
    assert torch.equal(some, linear(x, weight, bias, implementation="onednn")[start:stop])


@ONEDNN
@pytest.mark.parametrize("num_threads", [1, 8, 64])
def test_few_shapes_occur(monkeypatch, num_threads):
    seen = set()
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)

    def remember(x, weight, *arguments):
        seen.add((x.shape, weight.shape))
        return onednn.product(x, weight, *arguments)

    monkeypatch.setattr(form, "product", remember)
    for num_rows in range(32, 1_500 * num_threads, 7 * num_threads):
        x, weight, _ = layer(num_rows)
        linear(x.requires_grad_(), weight.requires_grad_()).sum().backward()
    assert len(seen) <= 3 * 4 * onednn.BLOCK_ROWS // onednn.MULTIPLE


@ONEDNN
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_only_what_is_wanted_gets_a_gradient(wanted):
    parts = layer(40)
    for i in wanted:
        parts[i].requires_grad_()
    linear(*parts).square().sum().backward()
    assert [part.grad is not None for part in parts] == [i in wanted for i in range(3)]


@ONEDNN
def test_rows_may_have_any_shape_and_strides():
    x, weight, bias = layer(120)
    expected = linear(x, weight, bias)
    assert torch.equal(linear(x.view(2, 60, -1), weight, bias), expected.view(2, 60, -1))
    assert torch.equal(linear(x.T.contiguous().T, weight.T.contiguous().T, bias), expected)


@ONEDNN
def test_auto_takes_onednn_where_it_can_and_is_faster():
    x, weight, _ = layer(40)
    assert form.can_take(x, weight, None)
    assert not form.is_faster(x[:31])
    assert not form.can_take(x[:0], weight, None)
    assert not form.can_take(x.double(), weight.double(), None)
    assert not form.can_take(x, weight.bfloat16(), None)
    assert not form.can_take(x.to("meta"), weight.to("meta"), None)
    with torch.autocast("cpu", torch.bfloat16):
        assert not form.can_take(x, weight, None)
        assert linear(x, weight).dtype == torch.bfloat16
    assert not torch.compile(onednn.takes, backend="eager")(x, weight)


@ONEDNN
def test_what_stands_for_a_tensor_is_left_to_torch():
    class Quantized(torch.Tensor):
        pass

    x, weight, _ = layer(40)
    assert not form.can_take(x, weight.as_subclass(Quantized), None)
    assert form.can_take(x, nn.Parameter(weight), None)
    jacobian = torch.func.vmap(lambda row: linear(row, weight))(x.expand(3, -1, -1))
    torch.testing.assert_close(jacobian, reference(x, weight).expand(3, -1, -1))


def test_no_rows_and_no_bias():
    x, weight, _ = layer(40)
    assert linear(x[:0], weight).shape == (0, 40)
    torch.testing.assert_close(linear(x, weight), x @ weight.T)


def test_what_onednn_cannot_take_is_refused():
    x, weight, _ = layer(40)
    with pytest.raises(
        ValueError,
        match="needs rows, a weight and a bias in plain float32 .* not torch.float64 and torch.float64 on cpu",
    ):
        linear(x.double(), weight.double(), implementation="onednn")
    with pytest.raises(ValueError, match="implementation must be one of auto, reference, onednn, not 'mkl'"):
        inspect.unwrap(linear)(x, weight, implementation="mkl")


@ONEDNN
@pytest.mark.parametrize("num_rows", [40, 600])
def test_a_bias_may_have_any_strides_and_what_comes_out_may_be_changed(num_rows):
    x, weight, bias = layer(num_rows)
    for strided in (bias[:1].expand(40), bias.repeat_interleave(2)[::2]):
        torch.testing.assert_close(linear(x, weight, strided), reference(x, weight, strided))
    with torch.no_grad():
        out = linear(x, weight, bias)
    step = torch.ones(40, requires_grad=True)
    out.add_(step)  # a view made without a gradient would refuse
    out.sum().backward()
    assert (step.grad == num_rows).all()


@ONEDNN
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_tangents_of_forward_mode_are_kept():
    x, weight, bias = layer(40)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        tangent = torch.autograd.forward_ad.unpack_dual(linear(dual, weight, bias)).tangent
    torch.testing.assert_close(tangent, torch.ones_like(x) @ weight.T)


@ONEDNN
@pytest.mark.filterwarnings("ignore:TF32")
def test_pytorchs_own_switch_is_heeded():
    x, weight, bias = layer(40)
    with torch.backends.mkldnn.flags(enabled=False):
        assert not form.can_take(x, weight, bias)
    assert form.can_take(x, weight, bias)
