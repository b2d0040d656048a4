from typing import Any

import numpy as np
from scipy.special import softmax

from xtrimogene.tasks.annotation.learned import Learned, draw_cells


def test_the_ensemble_is_the_mean_probability_of_both(reference: Any) -> None:
    options = {"drawn": np.arange(100), "counts": reference.counts, "read": reference.read}
    learned = Learned.fit("ensemble", reference.embedding, reference.labels, **options)
    components = learned.space.place(reference.counts, reference.read)
    assert learned.by_expression is not None
    both = [learned.classifier.scores(reference.embedding), learned.by_expression.scores(components)]
    wanted = np.mean([softmax(scores, axis=1) for scores in both], axis=0)
    np.testing.assert_allclose(softmax(learned.scores(reference.embedding, components), axis=1), wanted, atol=1e-9)
    alone = Learned.fit("linear", reference.embedding, reference.labels, **options)
    np.testing.assert_array_equal(alone.scores(reference.embedding, components), both[0])


def test_few_cells_are_all_drawn() -> None:
    assert draw_cells(np.resize(["a", "b"], 30), most=30).tolist() == list(range(30))


def test_rare_labels_are_drawn_whole_and_others_by_their_share() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(["many", "some", "rare"], [70_000, 29_900, 100]))
    drawn = draw_cells(labels, most=10_000, least_of_label=100)
    names, numbers = np.unique(labels[drawn], return_counts=True)
    assert dict(zip(names.tolist(), numbers.tolist(), strict=True)) == {"many": 7000, "rare": 100, "some": 2990}
    assert (np.diff(drawn) > 0).all() and (drawn != draw_cells(labels, most=10_000, seed=1)).any()
