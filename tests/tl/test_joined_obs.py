from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad

from xtrimogene.tl.joined_obs import join_obs


def test_columns_of_both_in_types_that_a_file_holds(tmp_path: Path) -> None:
    first = pd.DataFrame(
        {"kind": pd.Categorical(["a", "b"]), "number": [1, 2], "mixed": [1, 2], "own": [True, False], "out": 1},
        index=["x", "y"],
    )
    second = pd.DataFrame(
        {"kind": ["c", None], "number": [3, 4], "mixed": ["one", "2"], "depth": [0.5, 1]}, index=[1, 2]
    )
    joined = join_obs({"first": first, "second": second}, without=["out"])
    assert list(joined.index) == ["x", "y", "1", "2"]
    assert list(joined.columns) == ["kind", "number", "mixed", "own", "depth"]
    assert joined["kind"].astype(object).where(joined["kind"].notna(), None).tolist() == ["a", "b", "c", None]
    assert joined["number"].dtype == np.int64 and joined["number"].tolist() == [1, 2, 3, 4]
    assert joined["mixed"].tolist() == ["1", "2", "one", "2"]
    assert (
        joined["own"].astype(object).tolist()[:2] == ["True", "False"]
        and joined["own"].isna().tolist()[2:] == [True] * 2
    )
    np.testing.assert_array_equal(joined["depth"], [np.nan, np.nan, 0.5, 1])
    AnnData(obs=joined).write_h5ad(tmp_path / "joined.h5ad")
    pd.testing.assert_frame_equal(read_h5ad(tmp_path / "joined.h5ad").obs, joined, check_categorical=False)


def test_names_that_both_have_are_told_apart() -> None:
    tables = {name: pd.DataFrame({"n": [1, 2]}, index=index) for name, index in (("a", ["x", "y"]), ("b", ["y", "z"]))}
    assert list(join_obs(tables).index) == ["x-a", "y-a", "y-b", "z-b"]


def test_a_column_twice_is_taken_once() -> None:
    twice = pd.DataFrame([[1, 2]], columns=["n", "n"], index=["x"])
    assert join_obs({"a": twice, "b": pd.DataFrame({"n": [3]}, index=["y"])})["n"].tolist() == [1, 3]
