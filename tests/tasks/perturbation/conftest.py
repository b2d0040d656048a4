from collections.abc import Callable, Sequence

import numpy as np
import pytest

from xtrimogene.tasks.perturbation.effects import Effects


@pytest.fixture(scope="session")
def make_effects() -> Callable[..., Effects]:
    """Return a builder of effects with given names and contexts, of random changes."""

    def build(
        names: Sequence[str], contexts: Sequence[int] | None = None, *, num_genes: int = 30, seed: int = 0
    ) -> Effects:
        random = np.random.default_rng(seed)
        context = np.zeros(len(names), dtype=np.int64) if contexts is None else np.array(contexts)
        number = int(context.max()) + 1
        halves = 5 + 0.1 * random.normal(size=(2, number, num_genes))
        return Effects(
            perturbation=np.array(names),
            context=context,
            change=random.normal(size=(len(names), num_genes)),
            num_cells=np.full(len(names), 50),
            context_names=tuple(f"context {place}" for place in range(number)),
            control=halves.mean(axis=0),
            halves=halves,
            num_controls=np.full(number, 50),
            variance=np.ones(num_genes),
        )

    return build
