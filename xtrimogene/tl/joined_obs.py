"""Tables of cells from two sources as one, in types that .h5ad holds."""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

MISSING = {"b": "boolean", "i": "Int64", "u": "UInt64", "f": "float64"}  # kind: its type that may lack values


def join_obs(tables: Mapping[str, pd.DataFrame], *, without: Collection[str] = ()) -> pd.DataFrame:
    """Return the cells of all tables in order, with the columns of all but those ``without``.

    Names of cells that several tables have get the name of their table at the end, and then all do. A column of
    booleans, integers or numbers in all tables that have it stays so, with missing values for the others; else it
    becomes a category of text.
    """
    indices = {source: table.index.astype(str) for source, table in tables.items()}
    if len(set().union(*indices.values())) < sum(len(set(index)) for index in indices.values()):
        indices = {source: index + f"-{source}" for source, index in indices.items()}
    parts = [
        table.rename(columns=str).loc[:, lambda named: ~named.columns.duplicated()].set_axis(indices[source])
        for source, table in tables.items()
    ]
    names = dict.fromkeys(name for part in parts for name in part.columns if name not in without)
    index = parts[0].index.append([part.index for part in parts[1:]])
    return pd.DataFrame({name: _column([part.get(name) for part in parts], parts) for name in names}, index=index)


def _column(given: list[pd.Series | None], parts: list[pd.DataFrame]) -> object:
    told = [_told(column) for column in given]
    kinds = {column.dtype.kind for column in told if column is not None}
    if kinds != {"b"} and not (kinds and kinds <= set("iuf")):
        text = [
            pd.Series(None, index=part.index, dtype=object) if column is None else column.astype(object)
            for column, part in zip(told, parts, strict=True)
        ]
        return pd.Categorical(pd.concat(text).map(str, na_action="ignore"))
    columns = [
        pd.Series(None, index=part.index, dtype=MISSING[min(kinds)]) if column is None else column
        for column, part in zip(told, parts, strict=True)
    ]
    joined = pd.concat(columns).array
    if joined.dtype.kind == "f":
        return joined.to_numpy(joined.dtype.type, na_value=np.nan)  # AnnData cannot write nullable floats
    return joined


def _told(column: pd.Series | None) -> pd.Series | None:
    """Return a column of objects in the type that its values have, and none where it has no value."""
    if column is None or column.dtype != object:
        return column
    return column.convert_dtypes() if column.notna().any() else None
