"""`tl.build_index` and `tl.search`: real cells find their like, files and memory agree, and what is refused early."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import xtrimogene as xt
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.demo import sample_cells
from xtrimogene.errors import CheckpointError, ConfigError, FieldError, FileFormatError, MissingExtraError
from xtrimogene.inference import Inference
from xtrimogene.tasks.expression_space import ExpressionSpace

MakeCells = Callable[..., AnnData]
RESULTS = ["query", "query_row", "rank", "score", "cell"]


def test_real_cells_find_cells_of_their_type(tmp_path: Path) -> None:
    cells = sample_cells()
    kinds = ["B cells", "Monocytes", "NK cells"]
    rows = [np.flatnonzero(cells.obs["cell_type"] == kind) for kind in kinds]
    known, asked = (cells[np.concatenate([row[part] for row in rows])].copy() for part in (slice(40), slice(40, 50)))
    index = xt.tl.build_index(known, tmp_path / "index", progress=False)
    assert index.cells.columns == ("source", "cell_type", "lane")
    found = xt.tl.search(asked, index, k=5, progress=False)
    assert list(found.columns) == [*RESULTS, "source", "cell_type", "lane"]
    assert found["query"].tolist() == np.repeat(asked.obs_names, 5).tolist()
    assert found["rank"].tolist() == [1, 2, 3, 4, 5] * 30
    true = np.repeat(asked.obs["cell_type"].astype(str).to_numpy(), 5)
    assert (found["cell_type"].astype(str) == true).mean() > 0.8
    falling = found["score"].to_numpy().reshape(30, 5)
    assert (np.diff(falling, axis=1) <= 0).all() and falling.max() <= 1 + 1e-3
    assert "xtrimogene" not in asked.obsm and not asked.uns

    named = known.obs.loc[found["cell"]]
    assert named["lane"].astype(str).tolist() == found["lane"].astype(str).tolist()
    of_one = xt.tl.search(asked, tmp_path / "index", k=3, where={"cell_type": "B cells"}, progress=False)
    assert set(of_one["cell_type"]) == {"B cells"} and len(of_one) == 90
    itself = xt.tl.search(known, index, k=1, progress=False)
    assert (itself["cell"].to_numpy() == known.obs_names).all()


def test_files_are_searched_as_data_in_memory_are(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path
) -> None:
    options = {"model": tiny_model, "min_genes": 1, "progress": False}
    parts = [make_cells(num_cells=12, seed=seed) for seed in (1, 2)]
    parts[0].obs["donor"] = pd.Categorical(np.resize(["A", "B", None], 12))
    parts[1].obs["batch"] = np.resize([1, 2], 12)
    parts[1].obs["score"] = 0.5
    parts[1].obs["rank"] = "high"
    paths = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    parts[0].write_h5ad(paths[0])
    parts[1].write_h5ad(paths[1])
    query = make_cells(num_cells=4, seed=3)
    in_memory = xt.tl.build_index(parts, tmp_path / "one", **options)
    from_files = xt.tl.build_index(paths, tmp_path / "two", **options)
    found, expected = (xt.tl.search(query, index, k=5, **options) for index in (from_files, in_memory))
    texts = {"cell_type", "donor", "batch"}
    assert texts < set(found.columns) and "score" in found and found["score"].dtype == np.float32
    assert set(found["source"]) <= {"a.h5ad", "b.h5ad"} and set(expected["source"]) == {"AnnData 1", "AnnData 2"}
    pd.testing.assert_frame_equal(found.drop(columns="source"), expected.drop(columns="source"))
    of_batch = xt.tl.search(query, from_files, k=20, where={"batch": ["2"]}, **options)
    assert len(of_batch) == 4 * 6 and of_batch["donor"].isna().all()


def test_cells_without_counts_are_neither_found_nor_asked(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path
) -> None:
    options = {"model": tiny_model, "min_genes": 1, "progress": False}
    known, query = make_cells(num_cells=6, seed=1), make_cells(num_cells=3, seed=2)
    for cells in (known, query):
        cells.X = cells.X.multiply(np.arange(cells.n_obs)[:, None] != 1).tocsr()
    with pytest.warns(UserWarning, match="1 of 6 cells have no counts in the model's genes and are not in the index"):
        index = xt.tl.build_index(known, tmp_path / "index", **options)
    with pytest.warns(UserWarning, match="1 of 3 cells have no counts"):
        found = xt.tl.search(query, index, k=10, **options)
    assert set(found["query"]) == {query.obs_names[0], query.obs_names[2]}
    assert set(found["cell"]) == set(known.obs_names) - {known.obs_names[1]} and len(found) == 2 * 5


MANY = AnnData(obs=pd.DataFrame({f"column {number}": ["a"] for number in range(1003)}, index=["cell"]))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"columns": ["organ"]}, FieldError, "no source has 'organ' in obs"),
        ({"columns": ["score"]}, FieldError, "columns holds 'score', which is what results call something else"),
        ({"columns": ["share"]}, FieldError, r"obs\['share'\] holds decimal numbers or no text \(float64\)"),
        ({"cells": []}, ConfigError, "no cells were given"),
        ({"cells": [MANY]}, FieldError, "obs has 1,003 columns of text, and an index takes 1,000; give columns="),
        ({"cells": [MANY, MANY]}, ConfigError, "an AnnData is given twice; each cell should be found once"),
        ({"folder": "full"}, CheckpointError, "exists already"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_embedded(
    options: dict,
    error: type[Exception],
    words: str,
    tiny_model: PretrainedModel,
    make_cells: MakeCells,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Inference, "cell_embeddings", lambda *_, **__: pytest.fail("too late"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    cells = make_cells()
    cells.obs["share"] = 0.5
    given = {"cells": cells, "folder": "index"} | options
    with pytest.raises(error, match=words):
        xt.tl.build_index(given.pop("cells"), tmp_path / given.pop("folder"), model=tiny_model, **given)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_search_that_cannot_be_says_so_before_it_embeds(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, options = make_cells(), {"model": tiny_model, "min_genes": 1}
    index = xt.tl.build_index(cells, tmp_path / "index", **options)
    monkeypatch.setattr(Inference, "cell_embeddings", lambda *_, **__: pytest.fail("too late"))
    for change, error, words in (
        ({"k": 0}, ConfigError, "k=0 must be a whole number of at least 1"),
        ({"model": "demo"}, CheckpointError, "holds vectors of .* give that model, or build the index again"),
        ({"where": {"organ": "lung"}}, FieldError, "the index has no column 'organ'"),
        ({"index": tmp_path}, CheckpointError, "no index at"),
    ):
        with pytest.raises(error, match=words):
            xt.tl.search(cells, **({"index": index} | options | change))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"k": 2.0}, "k=2.0 must be a whole number"),
        ({"k": "3"}, "k='3' must be a whole number"),
        ({"where": "organ=lung"}, "where='organ=lung': values by column are needed, such as {'tissue': 'blood'}"),
    ],
)
def test_what_is_of_another_kind_is_refused(asked: dict[str, object], words: str, make_cells: MakeCells) -> None:
    unchecked = inspect.unwrap(xt.tl.search)  # without the type checks that only tests switch on
    with pytest.raises(ConfigError, match=words):
        unchecked(make_cells(), "no index", **asked)


def test_without_usearch_the_extra_is_named(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xtrimogene\[search\]'"):
        xt.tl.build_index(make_cells(), tmp_path / "index", model=tiny_model)


def test_each_hit_names_its_cell_and_its_file(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path
) -> None:
    """Files of one name with cells of one name, and columns called as ours are inside."""
    options = {"model": tiny_model, "min_genes": 1, "progress": False}
    paths = [tmp_path / folder / "matrix.h5ad" for folder in ("A", "B")]
    for seed, path in enumerate(paths):
        cells = make_cells(num_cells=6, seed=seed)
        cells.obs["names"], cells.obs["columns"] = path.parent.name, "text"
        path.parent.mkdir()
        cells.write_h5ad(path)
    index = xt.tl.build_index(paths, tmp_path / "index", **options)
    query = make_cells(num_cells=6, seed=1)
    query.obs_names = ["same"] * 6
    found = xt.tl.search(query, index, k=1, **options)
    assert set(found["source"]) == {"B/matrix.h5ad"} and set(found["names"]) == {"B"}
    assert found["cell"].tolist() == list(make_cells(num_cells=6, seed=1).obs_names)
    assert found["query"].tolist() == ["same"] * 6 and found["query_row"].tolist() == list(range(6))
    with pytest.raises(ConfigError, match=r"matrix\.h5ad is given twice"):
        xt.tl.build_index([paths[0], paths[0]], tmp_path / "twice", **options)


def test_columns_are_those_that_are_text_in_every_source(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path
) -> None:
    """A missing value makes pandas call whole numbers decimal; what is decimal in one source is no column of text."""
    options = {"model": tiny_model, "min_genes": 1, "progress": False}
    one, other = (make_cells(num_cells=6, seed=seed) for seed in (1, 2))
    one.obs["batch"], other.obs["batch"] = 1, [1.0, 2.0, np.nan, 1.0, 1.0, 2.0]
    one.obs["share"], other.obs["share"] = 1, 0.5
    one.obs["donor"], other.obs["donor"] = "A", np.nan
    one.obs["good"], one.obs["large"] = [True, False] * 3, 1e20
    index = xt.tl.build_index([one, other], tmp_path / "index", **options)
    assert {"batch", "donor", "good"} < set(index.cells.columns) and "share" not in index.cells.columns
    of_batch = xt.tl.search(one, index, k=20, where={"batch": 1}, **options)
    assert len(of_batch) == 6 * 9 and of_batch["batch"].unique().tolist() == ["1"]
    pd.testing.assert_frame_equal(xt.tl.search(one, index, k=20, where={"batch": 1.0}, **options), of_batch)
    assert set(of_batch["large"].dropna()) == {f"{10**20}"}
    assert len(xt.tl.search(one, index, k=20, where={"good": True, "donor": ["A"]}, **options)) == 6 * 3


def test_a_source_that_is_changed_meanwhile_is_noticed(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cells.h5ad"
    make_cells(num_cells=6, seed=1).write_h5ad(path)

    def fit(*arguments: object) -> ExpressionSpace:
        make_cells(num_cells=7, seed=2).write_h5ad(path)
        return expression(*arguments)

    expression = ExpressionSpace.fit
    monkeypatch.setattr(ExpressionSpace, "fit", fit)
    with pytest.raises(FileFormatError, match=r"cells\.h5ad was changed while the index was built"):
        xt.tl.build_index(path, tmp_path / "index", model=tiny_model, min_genes=1, progress=False)
    assert [left.name for left in tmp_path.iterdir()] == ["cells.h5ad"]


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_file_can_hold_is_refused_early(
    text: str, tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inference, "cell_embeddings", lambda *_, **__: pytest.fail("too late"))
    cells = make_cells()
    cells.obs["donor"] = text
    with pytest.raises(FieldError, match=r"obs\['donor'\] holds .* which is no text that a file can hold"):
        xt.tl.build_index(cells, tmp_path / "index", model=tiny_model, min_genes=1)
    cells = make_cells()
    cells.obs_names = [text, *cells.obs_names[1:]]
    with pytest.raises(FieldError, match="obs_names holds"):
        xt.tl.build_index(cells, tmp_path / "index", model=tiny_model, min_genes=1)


def test_too_few_cells_for_axes_need_none(tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path) -> None:
    options = {"model": tiny_model, "min_genes": 1, "progress": False}
    alike = make_cells(num_cells=4)
    alike.X = alike.X[[0, 0, 0, 0]].copy()
    with pytest.raises(ConfigError, match=r"4 cells that differ in 0 genes.*expression=False"):
        xt.tl.build_index(alike, tmp_path / "index", **options)
    index = xt.tl.build_index(alike, tmp_path / "index", expression=False, **options)
    found = xt.tl.search(make_cells(num_cells=2, seed=1), index, **options)
    assert found["rank"].tolist() == [1, 2, 3, 4] * 2 and found["score"].between(-1, 1).all()


def test_axes_are_of_genes_that_every_source_measured(
    tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path
) -> None:
    """A gene that one source did not measure is unknown there, and no difference between sources."""
    options = {"model": tiny_model, "min_genes": 1, "progress": False}
    one, other = (make_cells(num_cells=8, seed=seed) for seed in (1, 2))
    fewer = [other[:, 100:].copy(), one[:, :300].copy()]
    index = xt.tl.build_index(fewer, tmp_path / "index", **options)
    columns = {name: place for place, name in enumerate(tiny_model.genes.symbols)}
    both = {columns[name] for name in set(fewer[0].var_names) & set(fewer[1].var_names)}
    assert set(np.flatnonzero(index.space.expression.share)) <= both and 100 < len(both) < 300
