"""Shapes near a size."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.protein.planning.shape import Shape, shape_of


@pytest.mark.parametrize(
    ("num_layers", "dim", "size"), [(47, 4352, 10_682_105_856), (36, 4096, 7_247_757_312), (12, 768, 84_934_656)]
)
def test_sizes_of_published_shapes(num_layers: int, dim: int, size: int) -> None:
    assert Shape(num_layers=num_layers, dim=dim, num_heads=1).num_parameters == size


def test_published_sizes_have_their_shapes() -> None:
    assert shape_of(84_934_656.0) == Shape(num_layers=12, dim=768, num_heads=12)
    assert shape_of(10_682_105_856.0) == Shape(num_layers=47, dim=4352, num_heads=34)


@given(exponent=st.floats(5.5, 13.0))
def test_shapes_are_near_and_even(exponent: float) -> None:
    shape = shape_of(10.0**exponent)
    assert shape.dim // shape.num_heads in (64, 128)
    assert shape.dim % shape.num_heads == 0
    assert abs(math.log(shape.num_parameters / 10.0**exponent)) < (0.03 if exponent > 9 else 0.3)
    assert 8 < shape.dim / shape.num_layers < 300
