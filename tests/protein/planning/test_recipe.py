"""The recipe of the source, at the sizes that it trained."""

import pytest

from xtrimogene.protein.planning.recipe import recipe_of


@pytest.mark.parametrize(
    ("size", "rate"),
    [(25e6, 6e-4), (49e6, 6e-4), (85e6, 5.5e-4), (130e6, 5.5e-4), (200e6, 5e-4), (470e6, 4e-4), (880e6, 3.5e-4)],
)
def test_rates_of_the_sizes_that_were_trained(size: float, rate: float) -> None:
    assert recipe_of(size).peak_rate == pytest.approx(rate)


def test_large_models_have_the_least_rate_and_the_larger_batch() -> None:
    assert recipe_of(1e9).peak_rate == recipe_of(1e11).peak_rate == pytest.approx(3e-4)
    assert recipe_of(0.99e9).batch_size == 512
    assert recipe_of(1e9).batch_tokens == 1024 * 1024


def test_steps_cover_the_tokens() -> None:
    recipe = recipe_of(1e8)
    assert recipe.num_steps(10.5 * recipe.batch_tokens) == 11
    assert recipe.warmup_steps(1000.0 * recipe.batch_tokens) == 25
