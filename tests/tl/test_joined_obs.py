from pathlib import Path

import numpy as np
import pandas as pd
import pytest
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
    assert joined["own"].dtype == "boolean" and joined["own"].tolist() == [True, False, pd.NA, pd.NA]
    np.testing.assert_array_equal(joined["depth"], [np.nan, np.nan, 0.5, 1])
    AnnData(obs=joined).write_h5ad(tmp_path / "joined.h5ad")
    pd.testing.assert_frame_equal(read_h5ad(tmp_path / "joined.h5ad").obs, joined, check_categorical=False)


def test_names_that_both_have_are_told_apart() -> None:
    tables = {name: pd.DataFrame({"n": [1, 2]}, index=index) for name, index in (("a", ["x", "y"]), ("b", ["y", "z"]))}
    assert list(join_obs(tables).index) == ["x-a", "y-a", "y-b", "z-b"]


def test_a_column_twice_is_taken_once() -> None:
    twice = pd.DataFrame([[1, 2]], columns=["n", "n"], index=["x"])
    assert join_obs({"a": twice, "b": pd.DataFrame({"n": [3]}, index=["y"])})["n"].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("first", "second", "dtype", "values"),
    [
        ([True, False], None, "boolean", [True, False, pd.NA]),
        (None, [True, False], "boolean", [pd.NA, True, False]),
        ([True, False], [False], "bool", [True, False, False]),
        (pd.array([True, None]), [False], "boolean", [True, pd.NA, False]),
        ([3, 4], None, "Int64", [3, 4, pd.NA]),
        (pd.array([3, None]), [5], "Int64", [3, pd.NA, 5]),
        (np.array([3], np.uint8), None, "UInt64", [3, pd.NA]),
        ([3, 4], [0.5], "float64", [3.0, 4.0, 0.5]),
        (pd.array([3, None]), [0.5], "float64", [3.0, np.nan, 0.5]),
        (np.array([0.5], np.float32), None, "float64", [0.5, np.nan]),
        (np.array([0.5], np.float32), np.array([1], np.float32), "float32", [0.5, 1.0]),
        (pd.Series([True, None], dtype=object), [False], "boolean", [True, pd.NA, False]),
        (pd.Series([None], dtype=object), [1, 2], "Int64", [pd.NA, 1, 2]),
        (pd.Categorical(["a", "b"]), None, "category", ["a", "b", np.nan]),
        (pd.Categorical([1, 2]), [3], "category", ["1", "2", "3"]),
        ([True], [1], "category", ["True", "1"]),
        (pd.array(["a"], dtype="string"), ["b"], "category", ["a", "b"]),
        (pd.to_datetime(["2020-01-01"]), None, "category", ["2020-01-01 00:00:00", np.nan]),
        (pd.Series([None], dtype=object), None, "category", [np.nan, np.nan]),
    ],
)
def test_a_column_keeps_its_kind_and_comes_back_from_a_file(
    first: object, second: object, dtype: str, values: list[object], tmp_path: Path
) -> None:
    """``None``: the table, of a cell then, lacks the column."""
    tables = {
        name: pd.DataFrame({"other": [0]}) if column is None else pd.DataFrame({"c": column})
        for name, column in (("a", first), ("b", second))
    }
    joined = join_obs(tables)[["c"]]
    assert joined["c"].dtype == dtype
    wanted = pd.Series(values, index=joined.index, name="c", dtype=object)
    pd.testing.assert_series_equal(joined["c"].astype(object), wanted)
    AnnData(obs=joined).write_h5ad(tmp_path / "joined.h5ad")
    pd.testing.assert_frame_equal(read_h5ad(tmp_path / "joined.h5ad").obs, joined)
