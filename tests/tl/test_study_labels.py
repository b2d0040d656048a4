"""What is read of the files of a study, and what is said of cells that are called unknown."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from anndata import AnnData

from xtrimogene.evaluation import AnnotationStudy
from xtrimogene.tl.study_labels import read_labelled_files


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., AnnotationStudy]:
    """Return a builder of a study of one file; with ``named``, these labels alone are asked for, as they are."""
    obs = pd.DataFrame({"kind": ["a", "b", "c", "unknown", None], "donor": ["x", "y", "unknown", "x", "y"]})
    file = str(tmp_path / "one.h5ad")
    AnnData(obs=obs.set_axis([f"cell{place}" for place in range(5)])).write_h5ad(file)

    def build(named: tuple[str, ...] = (), **settings: object) -> AnnotationStudy:
        labels = {file: {name: (name,) for name in named}} if named else {}
        least = {"files": (file,), "label_key": "kind", "output": "out", "split": "cell", "labels": labels}
        return AnnotationStudy(**least | settings)

    return build


@pytest.mark.parametrize(
    ("settings", "told", "used"),
    [
        ({}, ["kind"], "abc"),
        ({"group_key": "donor"}, ["kind", "donor"], "ab"),
        ({"left_out": ("unknown",)}, [], "abc"),
        ({"named": ("a", "b")}, [], "ab"),
        ({"named": ("a", "unknown")}, ["kind"], "a"),
    ],
)
def test_unknown_cells_are_told_of_where_no_setting_leaves_them_out(
    settings: dict[str, object], told: list[str], used: str, make_study: Callable[..., AnnotationStudy]
) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        (file,) = read_labelled_files(make_study(**settings))
    why = {
        "kind": "are not used, since obs['kind'] says 'unknown' of them",
        "donor": "that have a label are not used, since obs['donor'] holds nothing, or 'unknown', of them",
    }
    assert [str(one.message).split("; ")[0] for one in said] == [f"1 cells of one {why[key]}" for key in told]
    assert "".join(file.labels[file.used]) == used
