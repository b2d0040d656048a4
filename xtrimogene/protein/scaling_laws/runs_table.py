"""Training runs from a CSV file: what a law is fitted to.

Letters: P runs.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from xtrimogene.config import require
from xtrimogene.errors import FileFormatError

LEAST_PARAMETERS = 1e4  # of the largest run; fewer are millions that somebody wrote as units
MOST_APART = 3.0  # 6ND and C: other ways to count give less


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Runs:
    """Compute, parameters outside the embeddings, tokens seen, and validation loss in nats a token."""

    flops: Float[np.ndarray, " P"]
    num_parameters: Float[np.ndarray, " P"]
    num_tokens: Float[np.ndarray, " P"]
    loss: Float[np.ndarray, " P"]
    run: Shaped[np.ndarray, " P"] | None = None  # which run a point is of


def read_runs(
    path: str | os.PathLike[str],
    *,
    flops: str = "flops",
    num_parameters: str = "num_parameters",
    num_tokens: str = "num_tokens",
    loss: str = "loss",
    run: str | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
) -> Runs:
    """Read the named columns of a table of runs; of compute and tokens one may be missing, as C = 6ND.

    Parameters
    ----------
    where
        Keep only rows with one of these texts in the column.

    Raises
    ------
    FileFormatError
        No such file, no CSV, or values that are not positive numbers.
    ConfigError
        A column is missing, no row is kept, or the columns are in other units.
    """
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise FileFormatError(f"No file {os.fspath(path)!r}; a CSV with a row for each run is needed.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{os.fspath(path)} is not CSV: {error}.") from None
    known = ", ".join(map(str, table.columns))
    for column, texts in (where or {}).items():
        require(column in table, f"there is no column {column!r}; the columns are {known}.")
        table = table[table[column].astype(str).isin(texts)]
        require(len(table) > 0, f"no row has {' or '.join(map(repr, texts))} in the column {column!r}.")
    for column in (num_parameters, loss, *([] if run is None else [run])):
        require(column in table, f"there is no column {column!r}; the columns are {known}.")
    require(flops in table or num_tokens in table, f"a column {flops!r} or {num_tokens!r} is needed, of {known}.")
    size, losses = _numbers(table, num_parameters), _numbers(table, loss)
    tokens = _numbers(table, num_tokens) if num_tokens in table else _numbers(table, flops) / (6 * size)
    compute = _numbers(table, flops) if flops in table else 6 * size * tokens
    require(
        bool(size.max() >= LEAST_PARAMETERS),
        f"{num_parameters} is {size.max():g} at most; the number of parameters is needed, not millions of them.",
    )
    share = 6 * size * tokens / compute
    require(
        bool((share > 1 / MOST_APART).all() and (share < MOST_APART).all()),
        f"6 x {num_parameters} x {num_tokens} is {share.min():.3g} to {share.max():.3g} times {flops}; the "
        "three should agree, in parameters, tokens and operations.",
    )
    names = None if run is None else table[run].astype(str).to_numpy()
    return Runs(flops=compute, num_parameters=size, num_tokens=tokens, loss=losses, run=names)


def _numbers(table: pd.DataFrame, column: str) -> Float[np.ndarray, " P"]:
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if wrong.size:
        found = str(table[column].iloc[wrong[0]])
        row = table.index[wrong[0]] + 2  # the first line names the columns
        raise FileFormatError(f"line {row}: {column} is {found!r}; a positive number is needed.")
    return values
