from collections.abc import Callable

import numpy as np

from xtrimogene.tasks.perturbation.baselines import additive, mean_weights, no_change, own_mean, training_mean
from xtrimogene.tasks.perturbation.effects import Effects


def test_means_of_as_many_parts(make_effects: Callable[..., Effects]) -> None:
    train = make_effects(["A", "B", "C", "A+B", "A+C", "B+C"])
    found = training_mean(train, ["D", "A+D", "A+B+C"])
    np.testing.assert_allclose(found[0], train.change[:3].mean(axis=0))
    np.testing.assert_allclose(found[1], train.change[3:].mean(axis=0))
    np.testing.assert_allclose(found[2], 3 * train.change.sum(axis=0) / 9)  # none has three parts: three times one part
    np.testing.assert_allclose(mean_weights(train, ["D"])[0], [1 / 3] * 3 + [0] * 3)


def test_parts_add_up(make_effects: Callable[..., Effects]) -> None:
    train = make_effects(["A", "B", "C", "A"], [0, 0, 0, 1])
    mean = train.change.mean(axis=0)
    np.testing.assert_allclose(own_mean(train, ["A", "D"]), [(train.change[0] + train.change[3]) / 2, mean])
    expected = own_mean(train, ["A"])[0] + train.change[1]
    np.testing.assert_allclose(additive(train, ["A+B", "B+D"]), [expected, train.change[1] + mean])
    assert not no_change(train, ["A"]).any()
