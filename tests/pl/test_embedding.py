"""`pl.embedding`: what is drawn, in which colours, with which legend; nothing is written."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

import xtrimogene as xt
from xtrimogene.errors import FieldError
from xtrimogene.pl import umap_coordinates


@pytest.fixture
def plane() -> AnnData:
    random = np.random.default_rng(0)
    labels = np.array(["B", "T", "NK"])[np.arange(30) % 3]
    obs = pd.DataFrame({"cell_type": pd.Categorical(labels), "depth": random.random(30)}, index=map(str, range(30)))
    return AnnData(obs=obs, obsm={"X_plane": random.normal(size=(30, 2))})


def legend_of(ax: Axes) -> dict[str, str]:
    legend = ax.get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    return {name: to_hex(line.get_color()) for name, line in zip(names, legend.legend_handles, strict=True)}


def test_labels_get_their_colours_and_numbers(plane: AnnData) -> None:
    before = plane.copy()
    ax = xt.pl.embedding(plane, "cell_type", key="X_plane")
    assert isinstance(ax, Axes) and ax.get_title() == "cell_type"
    legend = legend_of(ax)
    assert list(legend) == ["B (10)", "NK (10)", "T (10)"] and len(set(legend.values())) == 3
    drawn = ax.collections[-1]
    places = np.asarray(drawn.get_offsets())
    wanted = {tuple(place): label for place, label in zip(plane.obsm["X_plane"], plane.obs["cell_type"], strict=True)}
    for place, colour in zip(places, drawn.get_facecolors(), strict=True):
        assert to_hex(colour) == legend[f"{wanted[tuple(place)]} (10)"]
    assert plane.obs.equals(before.obs) and list(plane.obsm) == ["X_plane"] and not plane.uns


def test_a_label_keeps_its_colour_where_others_are_absent(plane: AnnData) -> None:
    everything = legend_of(xt.pl.embedding(plane, "cell_type", key="X_plane"))
    plane.obs["predicted"] = plane.obs["cell_type"].where(np.arange(30) % 3 == 1)
    only_t = legend_of(xt.pl.embedding(plane, "predicted", key="X_plane"))
    assert list(only_t) == ["T (10)", "no label"] and only_t["T (10)"] == everything["T (10)"]


@pytest.mark.parametrize("number", [2, 8, 11, 18, 40])
def test_colours_differ_and_none_is_the_grey_of_missing(plane: AnnData, number: int) -> None:
    cells = AnnData(
        obs=pd.DataFrame({"label": [f"type {cell:02d}" for cell in range(number)]}, index=map(str, range(number))),
        obsm={"X_plane": np.random.default_rng(0).normal(size=(number, 2))},
    )
    colours = set(legend_of(xt.pl.embedding(cells, "label", key="X_plane")).values())
    assert len(colours) == number
    assert not any(colour[1:3] == colour[3:5] == colour[5:7] != "00" for colour in colours)


def test_too_many_labels_are_refused(plane: AnnData) -> None:
    plane.obs["name"] = plane.obs_names
    many = AnnData(obs=pd.DataFrame({"name": list(map(str, range(90)))}, index=map(str, range(90))))
    many.obsm["X_plane"] = np.zeros((90, 2))
    with pytest.raises(FieldError, match="90 different labels"):
        xt.pl.embedding(many, "name", key="X_plane")


def test_numbers_get_a_colour_bar_and_nothing_a_single_colour(plane: AnnData) -> None:
    ax = xt.pl.embedding(plane, "depth", key="X_plane", title="Depth")
    assert ax.get_title() == "Depth" and ax.get_legend() is None and len(ax.figure.axes) == 2
    assert len(xt.pl.embedding(plane, key="X_plane").figure.axes) == 1


def test_draws_where_it_is_told(plane: AnnData) -> None:
    _, axes = pyplot.subplots(1, 2)
    assert xt.pl.embedding(plane, "cell_type", key="X_plane", ax=axes[1]) is axes[1]
    assert not axes[0].collections


def test_what_is_missing_is_named(plane: AnnData) -> None:
    with pytest.raises(FieldError, match=r"no 'X_xtrimogene', it has X_plane; call xtrimogene.tl.embed"):
        xt.pl.embedding(plane)
    with pytest.raises(FieldError, match=r"no column 'celltype'; it has cell_type, depth"):
        xt.pl.embedding(plane, "celltype", key="X_plane")


@pytest.mark.slow
def test_umap_keeps_groups_together_and_nan_rows_nan() -> None:
    random = np.random.default_rng(0)
    vectors = np.repeat(np.eye(3) * 20, 20, axis=0) + random.normal(size=(60, 3))
    vectors[7] = np.nan
    found = umap_coordinates(vectors.astype(np.float32))
    assert np.isnan(found[7]).all() and np.isfinite(np.delete(found, 7, axis=0)).all()
    groups = np.repeat(range(3), 20)
    centers = np.stack([np.nanmean(found[groups == group], axis=0) for group in range(3)])
    known = np.isfinite(found[:, 0])
    nearest = np.linalg.norm(found[:, None] - centers, axis=2).argmin(1)
    assert (nearest == groups)[known].all()
    cells = AnnData(obs=pd.DataFrame(index=map(str, range(60))), obsm={"X_xtrimogene": vectors})
    drawn = np.asarray(xt.pl.embedding(cells).collections[-1].get_offsets())
    np.testing.assert_allclose(np.ma.filled(drawn, np.nan)[known], found[known], atol=1e-4)


def test_umap_of_too_few_cells() -> None:
    with pytest.raises(FieldError, match="at least 5"):
        umap_coordinates(np.zeros((4, 3)))
