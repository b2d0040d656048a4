"""What is drawn of labels beside the truth."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import xtrimogene as xt
from xtrimogene.demo import sample_cells
from xtrimogene.errors import FieldError, GeneMatchError


@pytest.fixture
def labelled() -> AnnData:
    """Return 4 B cells, one of them called T, 4 T cells, one of them unknown, a type never called, and two without."""
    true = ["B"] * 4 + ["T"] * 4 + ["ILC", None, "T"]
    found = ["B"] * 3 + ["T"] * 4 + ["unknown", "T", "B", None]
    confidence = [0.95, 0.95, 0.95, 0.55, 0.95, 0.95, 0.55, 0.5, 0.55, 0.9, np.nan]
    obs = pd.DataFrame(
        {"true": true, "xtrimogene_label": found, "xtrimogene_confidence": confidence}, index=map(str, range(11))
    )
    obs["xtrimogene_unknown"] = obs["xtrimogene_label"] == "unknown"
    return AnnData(obs=obs)


def test_rows_of_a_confusion_are_true_labels_that_add_up_to_one(labelled: AnnData) -> None:
    ax = xt.pl.confusion(labelled, "true")
    assert [text.get_text() for text in ax.get_yticklabels()] == ["B (4)", "T (4)", "ILC (1)"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["B", "T", "unknown"]
    shares = ax.images[0].get_array()
    np.testing.assert_allclose(shares, [[0.75, 0.25, 0], [0, 0.75, 0.25], [0, 1, 0]])
    assert sorted(text.get_text() for text in ax.texts) == [".25", ".25", ".75", ".75", "1"]


def test_nearly_all_are_written_as_all_and_names_of_cells_may_repeat() -> None:
    obs = pd.DataFrame({"true": ["a"] * 1000, "found": ["a"] * 999 + ["b"]}, index=["cell"] * 1000)
    with pytest.warns(UserWarning, match="not unique"):
        cells = AnnData(obs=obs)
    assert [text.get_text() for text in xt.pl.confusion(cells, "true", "found").texts] == ["1"]


def test_calibration_is_drawn_of_cells_that_have_a_label(labelled: AnnData) -> None:
    ax = xt.pl.calibration(labelled, "true")
    told, share = ax.containers[1].lines[0].get_data()
    np.testing.assert_allclose(told, [0.55, 0.95])
    np.testing.assert_allclose(share, [1 / 3, 1.0])
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in ax.patches]
    np.testing.assert_allclose(bars, [(8 / 15, 1 / 15, 3 / 8), (14 / 15, 1 / 15, 5 / 8)])
    assert ax.get_title() == f"8 cells; off by {abs(3 * 0.55 - 1) / 8 + 5 * 0.05 / 8:.3f}"


def test_markers_are_those_of_the_labels(tmp_path: Path) -> None:
    cells = sample_cells()
    kind = cells.obs["cell_type"].astype(str)
    cells = cells[kind.isin(["B cells", "Platelet", "NK cells"])].copy()
    groups = {"B cells": ["CD79A"], "NK cells": ["GNLY", "NCAM1"], "Platelet": ["PF4"]}
    ax = xt.pl.markers(cells, groups, "cell_type")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["CD79A", "GNLY", "NCAM1", "PF4"]
    dots = ax.collections[0]
    colours = np.asarray(dots.get_array() if dots.get_array() is not None else dots.get_facecolors())
    assert len(dots.get_sizes()) == 12 and len(colours) == 12
    sizes = dots.get_sizes().reshape(3, 4)
    assert sizes[0, 0] == sizes[:, 0].max() and sizes[1, 1] == sizes[:, 1].max() and sizes[2, 3] == sizes[:, 3].max()
    ax.figure.savefig(tmp_path / "markers.png")
    plain = xt.pl.markers(cells, ["PF4"], "cell_type")
    assert [text.get_text() for text in plain.get_xticklabels()] == ["PF4"]


def test_nothing_is_written(labelled: AnnData) -> None:
    before = labelled.copy()
    xt.pl.confusion(labelled, "true")
    xt.pl.calibration(labelled, "true")
    pd.testing.assert_frame_equal(labelled.obs, before.obs)


def test_refused(labelled: AnnData) -> None:
    with pytest.raises(FieldError, match="no column 'type'; it has true, "):
        xt.pl.confusion(labelled, "type")
    labelled.obs["none"] = None
    with pytest.raises(FieldError, match="no cell has both 'none' and 'xtrimogene_label'"):
        xt.pl.confusion(labelled, "none")
    with pytest.raises(FieldError, match="no cell has both 'none' and a confidence"):
        xt.pl.calibration(labelled, "none")
    labelled.obs["many"] = [f"type {number}" for number in range(11)]
    many = AnnData(obs=pd.DataFrame({"many": [f"type {number}" for number in range(41)]}, index=map(str, range(41))))
    with pytest.raises(FieldError, match="41 labels cannot be told apart"):
        xt.pl.confusion(many, "many", "many")
    cells = sample_cells()[:50].copy()
    with pytest.raises(GeneMatchError, match="NOGENE, MS4A2: not a human gene we know, or not measured here"):
        xt.pl.markers(cells, ["NOGENE", "CD3E", "MS4A2"], "cell_type")
    cells.obs["empty"] = None
    with pytest.raises(FieldError, match="no cell has a label in 'empty'"):
        xt.pl.markers(cells, ["CD3E"], "empty")
