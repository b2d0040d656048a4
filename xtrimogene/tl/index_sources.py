"""What cells to index come from, looked at before anything is embedded: their names, columns of text, and genes."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Shaped
from scipy.sparse import csr_matrix, vstack

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import ConfigError, FieldError
from xtrimogene.tasks.cell_search.cell_table import TextColumn
from xtrimogene.tasks.expression_space import ExpressionSpace

SOURCE = "source"
OWN = frozenset({"query", "query_row", "rank", "score", "cell", SOURCE})  # columns of results
MANY_TEXTS = 1000  # of a column that is taken without being named
MOST_COLUMNS = 1000
AXES_CELLS, LEAST_FOR_AXES = 20_000, 3  # cells that axes of expression are fitted on


Source: TypeAlias = AnnData | str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SourcesSeen:
    """The columns to keep and, of each source, which it has and how many cells; the axes of expression, if wanted."""

    sources: tuple[Source, ...]
    names: tuple[str, ...]
    columns: tuple[str, ...]
    columns_of: tuple[frozenset[str], ...]
    num_cells: tuple[int, ...]
    expression: ExpressionSpace | None


def look_at(
    sources: Sequence[Source],
    model: PretrainedModel,
    *,
    columns: Sequence[str] | None,
    expression: bool,
    min_genes: int,
) -> SourcesSeen:
    """Refuse what cannot be indexed, and decide what is kept of every source.

    Raises
    ------
    FieldError
        More than 1,000 columns; one that no source has, or that holds decimal numbers, or is called as one of the
        results'; text that no file can hold.
    ConfigError
        No source, or one given twice; too few cells or genes for axes of expression.
    CountsError, GeneMatchError, FileFormatError
        As in `xtrimogene.tl.embed`.
    """
    names = names_of(sources)
    if taken := sorted(OWN.intersection(columns or ())):
        raise FieldError(f"columns holds {taken[0]!r}, which is what results call something else; rename it in obs.")
    texts: dict[str, set[str]] = {}
    unfit, has, numbers = set[str](), [], []
    for source in sources:
        with open_cells(source) as cells:
            own = _by_name(cells.obs)
            numbers.append(cells.num_cells)
            _require_storable("obs_names", cells.obs.index.astype(str).to_numpy(dtype=object))
        for name in own if columns is None else [name for name in map(str, columns) if name in own]:
            column = _coded(own[name])
            if column is not None:
                texts.setdefault(name, set()).update(column.cat.categories)
            elif columns is None:
                unfit.add(name)
            else:
                raise FieldError(f"obs[{name!r}] holds decimal numbers or no text ({own[name].dtype}); text is needed.")
        has.append(set(own))
    if columns is None:
        unfit |= OWN | {name for name, known in texts.items() if len(known) > MANY_TEXTS}
    elif missing := sorted(set(map(str, columns)) - texts.keys()):
        raise FieldError(f"no source has {missing[0]!r} in obs; name a column that one of them has.")
    in_order = texts if columns is None else dict.fromkeys(map(str, columns))
    kept = tuple(name for name in in_order if name not in unfit)
    if len(kept) > MOST_COLUMNS:
        raise FieldError(f"obs has {len(kept):,} columns of text, and an index takes {MOST_COLUMNS:,}; give columns=.")
    for name in kept:
        _require_storable(f"obs[{name!r}]", np.array(sorted(texts[name]), dtype=object))
    return SourcesSeen(
        sources=tuple(sources),
        names=tuple(names),
        columns=kept,
        columns_of=tuple(frozenset(own.intersection(kept)) for own in has),
        num_cells=tuple(numbers),
        expression=_fit_axes(sources, numbers, model, min_genes, wanted=expression),
    )


def text_columns(obs: pd.DataFrame, names: Iterable[str]) -> dict[str, TextColumn]:
    """Return columns that `look_at` has passed, as text."""
    own, found = _by_name(obs), {}
    for name in names:
        coded = _coded(own[name])
        assert coded is not None
        codes = coded.cat.codes.to_numpy(dtype=np.int32)
        found[name] = TextColumn(categories=tuple(coded.cat.categories), codes=codes)
    return found


def names_of(sources: Sequence[Source]) -> list[str]:
    """Return a name for each: the end of its path that tells it from the others; data in memory are numbered.

    Raises
    ------
    ConfigError
        There are none, or one is given twice.
    """
    if not sources:
        raise ConfigError("no cells were given; an index needs an AnnData, or the path of one.")
    paths = [None if isinstance(source, AnnData) else Path(source).resolve() for source in sources]
    named = [path for path in paths if path is not None]
    if twice := next((path for path, number in Counter(named).items() if number > 1), None):
        raise ConfigError(f"{twice} is given twice; each cell should be found once.")
    in_memory = [id(source) for source in sources if isinstance(source, AnnData)]
    if len(set(in_memory)) < len(in_memory):
        raise ConfigError("an AnnData is given twice; each cell should be found once.")
    length = 1
    while len({path.parts[-length:] for path in named}) < len(named):
        length += 1
    names, number = [], 0
    for path in paths:
        if path is not None:
            names.append("/".join(path.parts[-length:]))
            continue
        number += 1
        names.append("AnnData" if len(in_memory) == 1 else f"AnnData {number}")
    return names


def _by_name(obs: pd.DataFrame) -> Mapping[str, pd.Series]:
    names = [str(name) for name in obs.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FieldError(f"obs has {names.count(twice)} columns {twice!r}; rename all but one.")
    return {name: obs.iloc[:, place] for place, name in enumerate(names)}


def _coded(column: pd.Series) -> pd.Series | None:
    """Return text, whole numbers or truth values as categories of text, else None."""
    column = column.reset_index(drop=True)
    values = column.dropna().astype(object)
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind == "floating" and all(float(value).is_integer() for value in values.unique()):
        values = values.map(int).astype(object)  # pandas calls whole numbers decimal where some are missing
    elif kind not in ("string", "empty", "integer", "boolean"):
        return None
    return values.map(str).reindex(column.index).astype("category")


def _require_storable(where: str, texts: Shaped[np.ndarray, " n"]) -> None:
    for text in texts:
        try:
            text.encode()
            storable = "\0" not in text
        except UnicodeEncodeError:
            storable = False
        if not storable:
            raise FieldError(f"{where} holds {text!r}, which is no text that a file can hold; rename it.")


def _fit_axes(
    sources: Sequence[Source],
    numbers: Sequence[int],
    model: PretrainedModel,
    min_genes: int,
    *,
    wanted: bool,
) -> ExpressionSpace | None:
    """Check the genes of every source, and fit on a share of its cells."""
    random, total = np.random.default_rng(0), max(sum(numbers), 1)
    drawn: list[csr_matrix] = []
    measured: Bool[np.ndarray, " G"] = np.ones(len(model.genes.symbols), dtype=bool)
    for source, number in zip(sources, numbers, strict=True):
        with open_cells(source) as cells, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # they come when the source is read
            counts = MatchedCounts.find(cells, model.genes)
            sample = vstack([block for _, block in counts.sample()], format="csr") if number else None
            counts.require_of_read(min_genes=min_genes)
        measured &= counts.match.measured
        if sample is not None and wanted:
            few = -(-number * AXES_CELLS // total)
            drawn.append(sample[np.sort(random.permutation(sample.shape[0])[:few])])
    if not wanted:
        return None
    cells_drawn = vstack(drawn, format="csr") if drawn else csr_matrix((0, len(measured)), dtype=np.float32)
    chosen = cells_drawn[:, np.flatnonzero(measured)]
    cells_drawn, chosen = (rows[np.flatnonzero(chosen.sum(axis=1))] for rows in (cells_drawn, chosen))
    differ = 0 if not chosen.shape[0] else int((chosen.max(axis=0) != chosen.min(axis=0)).sum())
    if min(chosen.shape[0], differ) < LEAST_FOR_AXES:
        raise ConfigError(
            f"{chosen.shape[0]:,} cells that differ in {differ:,} genes, of those that all sources measured, are too "
            "few for axes of expression; give expression=False (--no-expression)."
        )
    return ExpressionSpace.fit(cells_drawn, measured)
