import threading
from collections.abc import Iterator

import pytest

from xtrimogene.data.read_ahead import read_ahead


def test_items_come_in_order() -> None:
    assert list(read_ahead(range(5))) == [0, 1, 2, 3, 4]
    assert list(read_ahead([])) == []
    assert list(read_ahead([None, 0])) == [None, 0]


def test_the_next_item_is_made_while_one_is_used() -> None:
    made = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    ahead = read_ahead(items())
    assert next(ahead) == 0
    assert made[1].wait(timeout=10) and not made[2].is_set()
    assert list(ahead) == [1, 2]


def test_an_error_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the second is damaged")

    ahead = read_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="the second is damaged"):
        next(ahead)


def test_stopping_early_leaves_no_thread() -> None:
    before = threading.active_count()
    ahead = read_ahead(range(100))
    assert next(ahead) == 0
    ahead.close()
    assert threading.active_count() == before
