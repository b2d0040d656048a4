"""Tables of cells from two sources as one, in types that .h5ad holds."""

from collections.abc import Collection, Mapping

import pandas as pd


def join_obs(tables: Mapping[str, pd.DataFrame], *, without: Collection[str] = ()) -> pd.DataFrame:
    """Return the cells of all tables in order, with the columns of all but those ``without``.

    Names of cells that several tables have get the name of their table at the end, and then all do. A column stays of
    its kind where all tables have it so, or where it is of numbers; else it becomes text.
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
    kinds = {str(column.dtype) for column in given if column is not None}
    columns = [
        pd.Series(None, index=part.index, dtype=object) if column is None else column
        for column, part in zip(given, parts, strict=True)
    ]
    everywhere = not any(column is None for column in given)
    if everywhere and len(kinds) == 1 and not kinds & {"object", "category"}:
        return pd.concat(columns).array
    joined = pd.concat([column.astype(object) for column in columns]).infer_objects()
    if pd.api.types.is_numeric_dtype(joined):
        return joined.array
    return pd.Categorical(joined.map(str, na_action="ignore"))
