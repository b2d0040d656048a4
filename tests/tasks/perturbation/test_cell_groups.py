import numpy as np

from xtrimogene.tasks.perturbation.cell_groups import deal_cells

NAMES = np.array((["ctrl"] * 41 + ["A"] * 12 + ["B"] * 3) * 2)
CONTEXT = np.repeat(["x", "y"], 56)


def test_cells_that_are_not_used_are_in_no_group() -> None:
    used = np.arange(112) % 56 != 0
    groups = deal_cells(NAMES, CONTEXT, "ctrl", used=used)
    assert groups.place[[0, 56]].tolist() == groups.quarter[[0, 56]].tolist() == [-1, -1]
    assert groups.perturbation.tolist() == ["A", "A"] and groups.context.tolist() == [0, 1]
    np.testing.assert_array_equal(np.flatnonzero(groups.quarter >= 0), np.flatnonzero(used & (NAMES == "ctrl")))
    for context in (0, 1):
        quarters = groups.quarter[(groups.place == context) & (groups.quarter >= 0)]
        assert np.bincount(quarters).tolist() == [10, 10, 10, 10]
    assert (groups.effect >= 0).sum() == 24 and not ((groups.effect >= 0) & (NAMES != "A")).any()


def test_control_cells_are_drawn_of_the_half_that_is_learned_from() -> None:
    groups = deal_cells(NAMES, CONTEXT, "ctrl")
    every, few = groups.draw_controls(10_000, seed=1), groups.draw_controls(10, seed=1)
    assert set(groups.quarter[every].tolist()) == {0, 2} and len(every) == 42
    assert np.bincount(groups.place[few]).tolist() == [5, 5] and np.isin(few, groups.draw_controls(20, seed=1)).all()
    assert len(groups.draw_controls(1, seed=1)) == 2 and (np.diff(every) > 0).all()
    assert not np.array_equal(few, groups.draw_controls(10, seed=2))
