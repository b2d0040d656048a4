"""Examples in batches of so many tokens, for reading."""

from collections.abc import Iterable, Iterator

import numpy as np

from xtrimogene.data.token_runs import token_runs
from xtrimogene.protein.examples.example import Example

AHEAD = 8  # batches whose examples are held at once, so that similar lengths meet in one


def cut_batches(examples: Iterable[Example], token_budget: int) -> Iterator[tuple[list[int], list[Example]]]:
    """Yield the places of some examples, and them: similar lengths together, a few batches looked ahead.

    A batch holds at most ``token_budget`` tokens; a longer example goes alone.
    """
    held: list[tuple[int, Example]] = []
    num_tokens = 0
    for place, example in enumerate(examples):
        held.append((place, example))
        num_tokens += len(example.token_ids)
        if num_tokens >= AHEAD * token_budget:
            yield from _by_length(held, token_budget)
            held, num_tokens = [], 0
    if held:
        yield from _by_length(held, token_budget)


def _by_length(held: list[tuple[int, Example]], token_budget: int) -> Iterator[tuple[list[int], list[Example]]]:
    held = sorted(held, key=lambda one: len(one[1].token_ids))
    lengths = np.array([len(example.token_ids) for _, example in held])
    for part in token_runs(lengths, token_budget):
        yield [place for place, _ in held[part]], [example for _, example in held[part]]
