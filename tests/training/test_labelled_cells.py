"""Cells as fine-tuning reads them: labels in turn, so many genes a step, thinned, and whole in the end."""

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, vstack

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import FineTuneConfig, ReadDepthConfig
from xtrimogene.data.read_depth import ReadDepth
from xtrimogene.training.labelled_cells import CellBatches, LabelledCells, draw_judged, in_turn, thin

labels = st.lists(st.integers(0, 3), min_size=1, max_size=40).map(
    lambda given: np.unique(given, return_inverse=True)[1]
)


@given(labels, st.integers(0, 5))
def test_labels_come_in_turn_and_their_cells_all_before_any_again(label: np.ndarray, seed: int) -> None:
    number, longest = len(np.unique(label)), np.bincount(label).max()
    rows = np.array(list(islice(in_turn(label, np.random.default_rng(seed)), 2 * number * longest)))
    assert (np.sort(label[rows].reshape(-1, number), axis=1) == np.arange(number)).all()
    for one in range(number):
        own = rows[label[rows] == one]
        cells = np.flatnonzero(label == one)
        for start in range(0, len(own) - len(cells), len(cells)):
            assert sorted(own[start : start + len(cells)]) == cells.tolist()


@given(labels, st.integers(1, 2_000), st.data())
def test_judged_cells_are_of_labels_and_folds_alike(label: np.ndarray, most: int, data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 9)))
    fold, lengths = random.integers(0, 3, len(label)), random.integers(1, 50, len(label))
    judged = draw_judged(lengths, label, fold, most, seed=0)
    assert (np.diff(judged) > 0).all()
    pair = 3 * label + fold
    drawn, there = np.bincount(pair[judged], minlength=pair.max() + 1), np.bincount(pair)
    assert (drawn >= np.minimum(there, 2)).all()
    whole = drawn == there
    assert whole.all() or drawn[~whole].max() - drawn[~whole].min() <= 1
    assert lengths[judged].sum() <= most or drawn.max() <= 2
    assert whole.all() or lengths[judged].sum() + lengths.max() > most


def test_steps_hold_as_many_genes_as_fit_and_go_on_from_epoch_to_epoch(
    tiny_model: PretrainedModel, make_counts: Any
) -> None:
    counts = make_counts(30, 400, density=0.1, seed=1)
    lengths, places = np.diff(counts.indptr), np.arange(30)
    vectors = np.zeros((30, 12), dtype=np.float32)
    cells = LabelledCells(counts=counts, vectors=vectors, label=places % 2, fold=places % 3, judged=places[::2])
    config = FineTuneConfig(step_tokens=200, steps_per_epoch=3)

    def read(config: FineTuneConfig, *, training: bool) -> CellBatches:
        return CellBatches(tiny_model.network, cells, config, ReadDepth.parse("f1"), training=training)

    train = read(config, training=True)
    steps = [batch.rows for _ in range(4) for batch in train]
    assert len(train) == 3 and len(steps) == 12
    for rows, following in zip(steps, steps[1:], strict=False):
        assert lengths[rows].sum() <= 200 < lengths[rows].sum() + lengths[following[0]]
    assert sorted(np.concatenate(steps)[:30]) == places.tolist(), "as both labels have fifteen cells"
    judged = read(config, training=False)
    for _ in range(2):
        rows = [batch.rows for batch in judged]
        assert sorted(np.concatenate(rows)) == cells.judged.tolist() and len(judged) == len(rows)
        assert all(lengths[own].sum() <= 200 for own in rows)
    assert [batch.tokens.data_ptr() for batch in judged] == [batch.tokens.data_ptr() for batch in judged], "read once"
    alone = read(replace(config, step_tokens=1), training=True)
    assert [len(batch.rows) for batch in alone] == [1, 1, 1]


def test_thinned_cells_can_be_read_and_fractions_count_for_what_they_are(make_counts: Any) -> None:
    two = csr_matrix(([1.0, 1.0], ([0, 0], [3, 4])), shape=(1, 40), dtype=np.float32)
    counts = vstack([two, make_counts(49, 40, seed=2)], format="csr")
    config, random = ReadDepthConfig(unchanged_probability=0.0), np.random.default_rng(0)
    thinned = [thin(counts, config, random) for _ in range(60)]
    totals = np.array([np.asarray(one.sum(axis=1)).ravel() for one in thinned])
    assert totals.min() > 1 and (totals <= np.asarray(counts.sum(axis=1)).ravel()).all()
    assert 0.4 < totals[:, 1:].sum() / (60 * counts[1:].sum()) < 0.6, "half of the molecules, on average"
    halves = csr_matrix(counts * 0.5)
    unchanged = [thin(halves, ReadDepthConfig(unchanged_probability=1.0), random).sum() for _ in range(60)]
    assert np.mean(unchanged) == pytest.approx(halves.sum(), rel=0.03)
