"""What temperature and nucleus do to a draw."""

import numpy as np
import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.protein.generation.sampling import SamplingConfig, draw_token

PROBABILITIES = np.asarray([0.05, 0.5, 0.3, 0.15])
ALLOWED = np.asarray([1, 3, 4, 6])


def frequencies(config: SamplingConfig, draws: int = 4_000) -> np.ndarray:
    logits = np.full(8, 50.0)  # what is not allowed is likely
    logits[ALLOWED] = np.log(PROBABILITIES)
    random = config.generator(0)
    drawn = [draw_token(logits, ALLOWED, config, random) for _ in range(draws)]
    assert set(drawn) <= set(ALLOWED.tolist())
    return np.asarray([drawn.count(token) / draws for token in ALLOWED])


def test_draws_follow_the_allowed_probabilities() -> None:
    assert frequencies(SamplingConfig()) == pytest.approx(PROBABILITIES, abs=0.03)


def test_temperature_sharpens() -> None:
    squared = PROBABILITIES**2 / (PROBABILITIES**2).sum()
    assert frequencies(SamplingConfig(temperature=0.5)) == pytest.approx(squared, abs=0.03)
    for greedy in (1e-6, 1e-308):
        assert frequencies(SamplingConfig(temperature=greedy)).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.5, [1]), (0.51, [1, 2]), (0.8, [1, 2]), (0.81, [1, 2, 3]), (1.0, [0, 1, 2, 3])]
)
def test_a_nucleus_is_the_fewest_that_make_up_the_share(top_p: float, kept: list[int]) -> None:
    expected = np.zeros(4)
    expected[kept] = PROBABILITIES[kept] / PROBABILITIES[kept].sum()
    assert frequencies(SamplingConfig(top_p=top_p)) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"seed": -1}])
def test_settings_that_cannot_work_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(settings))}=.* must"):
        SamplingConfig(**settings)  # type: ignore[arg-type]
