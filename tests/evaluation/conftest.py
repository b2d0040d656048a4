"""Lessons of tiny counts: three labels that differ in a few genes, from two batches, and others to ask for."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.tasks import Task
from xtrimogene.evaluation.trials import Lesson, lesson_of

NUM_GENES = 120


def counts_of(labels: np.ndarray, seed: int) -> csr_matrix:
    rates = np.tile(np.random.default_rng(0).gamma(0.5, 2.0, size=NUM_GENES), (len(labels), 1))
    for number, label in enumerate("abc"):
        rates[labels == label, 10 * number : 10 * number + 10] += 4
    return csr_matrix(np.random.default_rng(seed).poisson(rates).astype(np.float32))


@pytest.fixture(scope="session")
def make_task() -> Callable[..., Task]:
    """Return a builder of a task: 60 cells to learn from, of three donors, and 30 to test, by study."""

    def build(seeds: tuple[int, ...] = (0,)) -> Task:
        labels = np.array(["a", "b", "c"])[np.arange(90) % 3]
        tested = np.arange(90) >= 60
        split = Split(name="study", train=np.flatnonzero(~tested), test=np.flatnonzero(tested), grouping="study")
        return Task(
            name="one -> two",
            counts=counts_of(labels, seed=1),
            genes=np.ones(NUM_GENES, dtype=bool),
            labels=labels,
            groups=np.where(tested, "two", np.array(["d1", "d2", "d3"])[np.arange(90) // 3 % 3]),
            studies=np.where(tested, "two", "one"),
            rows=np.arange(90),
            splits=tuple((split,) for _ in seeds),
            mixing=False,
        )

    return build


@pytest.fixture
def lesson(make_task: Callable[..., Task]) -> Lesson:
    task = make_task()
    return lesson_of(task, task.counts, task.splits[0][0], task.groups, "donor", 3, 0)
