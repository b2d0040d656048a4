from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_rgba

import xtrimogene as xt
from xtrimogene.errors import FieldError


@pytest.fixture
def mapped() -> AnnData:
    """Return three cells of a reference and four of a query: one unknown, one without counts."""
    obs = pd.DataFrame(
        {
            "xtrimogene_source": ["reference"] * 3 + ["query"] * 4,
            "xtrimogene_label": ["B", "T", "T", "T", "unknown", "B", None],
            "xtrimogene_confidence": [np.nan] * 3 + [0.9, 0.4, 0.7, np.nan],
        },
        index=map(str, range(7)),
    )
    plane = np.column_stack([np.arange(7.0), np.zeros(7)])
    plane[6] = np.nan
    return AnnData(obs=obs, obsm={"X_umap": plane})


def drawn(ax: object, number: int) -> dict[float, tuple[float, ...]]:
    """Return the colour of each cell, by its place, in one of the layers of a panel."""
    dots = ax.collections[number]
    dots.update_scalarmappable()
    colours = dots.get_facecolors()
    places = np.ma.getdata(dots.get_offsets())[:, 0]
    return {float(x): tuple(colours[min(row, len(colours) - 1)]) for row, x in enumerate(places) if np.isfinite(x)}


def test_reference_and_query_share_colours(mapped: AnnData, tmp_path: Path) -> None:
    known, labelled, sure = xt.pl.reference_map(mapped)
    reference, grey, query = drawn(known, 0), drawn(labelled, 0), drawn(labelled, 1)
    assert set(reference) == set(grey) == {0, 1, 2} and set(query) == {3, 4, 5}
    assert reference[1] == reference[2] == query[3] and reference[0] == query[5] != query[3]
    assert query[4] == to_rgba("black") and grey[0] == grey[1] == to_rgba("#D8D8D8")
    assert set(drawn(sure, 0)) == {0, 1, 2}
    assert set(drawn(sure, 1)) == {3, 4, 5} and sure.collections[1].get_clim() == (0, 1)
    named = [text.get_text() for text in known.figure.legends[0].get_texts()]
    assert named == ["B (1 + 1)", "T (2 + 1)", "unknown (0 + 1)"]
    assert [ax.get_title() for ax in (known, labelled)] == ["reference, 3 cells", "query, 4 cells"]
    known.figure.savefig(tmp_path / "map.png")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda cells: cells.obsm.clear(), "no 'X_umap'; call xtrimogene.tl.map_to_reference with umap=True"),
        (lambda cells: cells.obs.drop(columns="xtrimogene_label", inplace=True), "no column 'xtrimogene_label'"),
        (
            lambda cells: cells.obs.__setitem__("xtrimogene_source", "query"),
            "has no cell of one of query and reference",
        ),
    ],
)
def test_refused(change: Callable[[AnnData], object], words: str, mapped: AnnData) -> None:
    change(mapped)
    with pytest.raises(FieldError, match=words):
        xt.pl.reference_map(mapped)


def test_more_labels_than_can_be_told_apart(mapped: AnnData) -> None:
    rows = np.resize(np.arange(6), 80)
    obs = mapped.obs.iloc[rows].set_axis([str(number) for number in range(80)])
    many = AnnData(obs=obs, obsm={"X_umap": mapped.obsm["X_umap"][rows]})
    many.obs["xtrimogene_label"] = [f"type {number}" for number in range(80)]
    with pytest.raises(FieldError, match="has 80 different labels; at most 60"):
        xt.pl.reference_map(many)
