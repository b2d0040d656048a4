"""Figures are drawn without a display, and closed after each test."""

from collections.abc import Iterator

import matplotlib
import pytest

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    from matplotlib import pyplot

    yield
    pyplot.close("all")
