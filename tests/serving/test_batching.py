from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, vstack

from xtrimogene.serving.batching import Job, MicroBatcher, QueueFull


def cells(lengths: list[int]) -> csr_matrix:
    """Return cells with so many genes, whose values count on, so that each is told from the others."""
    indptr = np.cumsum([0, *lengths])
    indices = np.concatenate([np.arange(length) for length in [0, *lengths]]).astype(np.int64)
    return csr_matrix((np.arange(indptr[-1], dtype=np.float32), indices, indptr), shape=(len(lengths), 50))


def drain(batcher: MicroBatcher) -> list[list[Job]]:
    batches = []
    while batch := batcher.take(0.0):
        batches.append(batch)
    return batches


def batcher(max_tokens: int = 30, max_waiting: int = 10_000, patience: float = 0.0) -> MicroBatcher:
    return MicroBatcher(max_tokens=max_tokens, max_waiting=max_waiting, max_seconds=60.0, patience=patience)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 50), min_size=1, max_size=8)), max_size=8))
def test_every_cell_is_in_one_batch_of_its_key_and_batches_keep_their_size(
    requests: list[tuple[str, list[int]]],
) -> None:
    queue = batcher()
    asked = [(key, cells(lengths)) for key, lengths in requests]
    futures = [queue.submit(key, counts) for key, counts in asked]
    for batch in drain(queue):
        assert len({job.key for job in batch}) == 1
        assert len(batch) == 1 or sum(job.num_tokens for job in batch) <= 30
        for job in batch:
            job.result.set_result(job.counts)
    assert queue.num_waiting == 0
    for (_, counts), parts in zip(asked, futures, strict=True):
        answered = vstack([part.result(0.0) for part in parts])
        assert (answered != counts).nnz == 0
        assert answered.shape == counts.shape


def test_cells_that_belong_together_are_not_cut() -> None:
    queue = batcher(max_tokens=5)
    assert len(queue.submit("labels", cells([4, 4, 4]), whole=True)) == 1
    assert len(queue.submit("vectors", cells([4, 4, 4]))) == 3


def test_what_finds_no_place_is_refused_whole_and_leaves_nothing() -> None:
    queue = batcher(max_waiting=20)
    queue.submit("a", cells([9]))
    with pytest.raises(QueueFull) as refused:
        queue.submit("a", cells([9, 9]))
    assert refused.value.seconds >= 1
    assert queue.num_waiting == 10
    assert len(drain(queue)) == 1
    queue.submit("a", cells([40, 40]))  # larger than the queue, and alone in it


def test_it_says_how_long_what_waits_will_take() -> None:
    queue = batcher(max_waiting=1_000)
    queue.done(tokens=100, seconds=1.0)
    queue.submit("a", cells([49] * 20))
    with pytest.raises(QueueFull) as refused:
        queue.submit("a", cells([9]))
    assert refused.value.seconds == 10


def test_nothing_is_taken_behind_a_minute_of_work() -> None:
    queue = batcher()
    queue.done(tokens=1, seconds=1.0)
    queue.submit("a", cells([40, 18]), whole=True)
    queue.submit("a", cells([9]))  # a minute stands before it
    with pytest.raises(QueueFull) as refused:
        queue.submit("a", cells([9]))
    assert refused.value.seconds == 60
    with pytest.raises(QueueFull):
        queue.require_room()
    assert queue.take(0.0)
    with pytest.raises(QueueFull):  # what runs stands before it too
        queue.require_room()
    assert queue.take(0.0)
    queue.require_room()
    queue.submit("a", cells([9]))


def test_what_was_cancelled_is_not_computed_and_gives_its_place_back() -> None:
    queue = batcher()
    (first,) = queue.submit("a", cells([20]))
    (second,) = queue.submit("a", cells([3]))
    assert first.cancel()
    assert [job.result for batch in drain(queue) for job in batch] == [second]
    assert queue.num_waiting == 0


def test_a_batch_waits_for_others_only_so_long() -> None:
    queue = batcher(patience=0.2)
    queue.submit("a", cells([3]))
    thread = Thread(target=lambda: queue.submit("a", cells([4])))
    thread.start()
    batch = queue.take(60.0)
    thread.join()
    assert batch is not None
    assert len(batch) == 2
    queue.submit("a", cells([3]))
    assert len(queue.take(60.0) or []) == 1  # nobody else comes


def test_closed_it_gives_what_waits_and_then_none() -> None:
    queue = batcher(patience=60.0)
    queue.submit("a", cells([3]))
    queue.close()
    with pytest.raises(QueueFull):
        queue.submit("a", cells([3]))
    assert len(queue.take(60.0) or []) == 1
    assert queue.take(60.0) is None


def test_who_waits_for_a_batch_hears_of_it_at_once() -> None:
    queue, taken = batcher(), []
    thread = Thread(target=lambda: taken.append(queue.take(60.0)))
    thread.start()
    queue.submit("a", cells([3]))
    thread.join(10)
    assert not thread.is_alive()
    assert len(taken[0]) == 1


def test_what_a_cell_costs_beside_its_genes_counts() -> None:
    queue = batcher(max_tokens=30)
    assert len(queue.submit("a", cells([5, 5, 5]), tokens_per_cell=20)) == 3
    assert queue.num_waiting == 75


def test_dropped_what_waits_is_given_up() -> None:
    queue = batcher()
    (future,) = queue.submit("a", cells([3]))
    queue.drop()
    assert future.cancelled()
    assert queue.take(1.0) is None
