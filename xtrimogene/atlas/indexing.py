"""An index for cell search from vectors that a run over shards has written: no model is run again."""

import json
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from xtrimogene.atlas.shards import RUN, Shard, plan_shards
from xtrimogene.atlas.work import EmbedWork
from xtrimogene.checkpoint import load, require_new_folder
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import CheckpointError, ConfigError, FileFormatError, MissingExtraError
from xtrimogene.tasks.cell_search.cell_index import CARD, CellIndex, open_index, write_index
from xtrimogene.tasks.cell_search.cell_space import place
from xtrimogene.tasks.cell_search.vector_index import VectorPrecision, check_precision, graph_class
from xtrimogene.tl.cell_search import indexed_cells
from xtrimogene.tl.embedding import CellVectors, reading_record
from xtrimogene.tl.index_sources import Source, look_at


def index_vectors(
    sources: Sequence[Path],
    vectors: Path,
    folder: Path,
    *,
    columns: Sequence[str] | None = None,
    expression: bool = True,
    precision: VectorPrecision = "float16",
    model: str = "demo",
    progress: bool = True,
) -> CellIndex:
    """Make an index as `xtrimogene.tl.build_index` does, from the vectors that `run` wrote with `EmbedWork`.

    One process does it; memory holds the vectors of one shard and the graph. An index of these very sources, vectors
    and options that is there already is opened, and nothing is done.

    Parameters
    ----------
    sources
        The shards, for their names, columns and, with ``expression``, counts.
    vectors
        The folder that the run wrote to.
    folder
        Of the index.
    columns, expression, precision
        As in `xtrimogene.tl.build_index`.
    model
        The one that the shards were embedded with.

    Raises
    ------
    ConfigError
        A shard that is not embedded, or has been changed since; a folder that is no such run; as in `build_index`.
    CheckpointError
        The vectors are of another model; the folder of the index holds something else.
    FieldError, CountsError, GeneMatchError, FileFormatError, MissingExtraError
        As in `xtrimogene.tl.build_index`; the record of the run is damaged.
    """
    graph_class()
    check_precision(precision)
    loaded = load(model)
    run = _read_run(vectors)
    if run["model"] != loaded.sha256:
        raise CheckpointError(f"{vectors} holds vectors of another model than {loaded.name}; name theirs as the model.")
    shards = {str(shard.source): shard for shard in plan_shards([path.absolute() for path in sources], vectors, run)}
    made_of = {shard.name: _hashes(shard) for shard in shards.values()}
    asked = {"shards": made_of, "columns": None if columns is None else list(columns), "expression": expression}
    target = folder.resolve()
    if (target / CARD).exists():
        there = open_index(target)
        if there.card.get("atlas") == asked and there.card["precision"] == precision:
            return there
    require_new_folder(target)
    min_genes = run["min_genes"]
    seen = look_at(list(shards), loaded, columns=columns, expression=expression, min_genes=min_genes)

    def read(source: Source) -> tuple[CellVectors, Float32[np.ndarray, "N W"]]:
        shard = shards[str(source)]
        with open_cells(source) as cells:
            counts = MatchedCounts.find(cells, loaded.genes)
            obs, measured = cells.obs.copy(), counts.match.measured
            blocks = [place(seen.expression, block, measured) for _, block in counts.blocks()] if expression else []
            report = counts.report() if expression else counts.require(min_genes=min_genes, all_rows=False)
        embedding = _read_table(shard, obs.index.astype(str).tolist())
        found = CellVectors(
            obs=obs,
            embedding=embedding,
            measured=measured,
            record=reading_record(loaded.name, loaded.sha256, {}, report),
            num_unread=int((~np.isfinite(embedding).all(axis=1)).sum()),
        )
        axes = np.concatenate(blocks) if blocks else np.zeros((len(obs), 0), dtype=np.float32)
        return found, np.hstack([embedding, axes])

    options = {"pool": run["pool"] or loaded.config.pool, "read_depth": run["read_depth"] or loaded.config.read_depth}
    card = {"model": {"model": loaded.name, "sha256": loaded.sha256, "options": options}, "atlas": asked}
    parts = indexed_cells(seen, read)
    return write_index(target, parts, expression=seen.expression, precision=precision, card=card, progress=progress)


def _read_run(vectors: Path) -> dict[str, Any]:
    try:
        run = json.loads((vectors / RUN).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{vectors} is no folder of a run ({error}); name what 'atlas embed' wrote.") from None
    if not isinstance(run, dict) or run.get("work") != "embed":
        raise ConfigError(f"{vectors} holds no vectors; name what 'atlas embed' wrote.")
    if missing := {field.name for field in fields(EmbedWork)} - run.keys():
        raise FileFormatError(f"{vectors / RUN} is damaged: it has no {min(missing)!r}; embed into a new folder.")
    return run


def _hashes(shard: Shard) -> dict[str, str]:
    """Return those of the source, whose names, columns and counts an index holds too, and of its vectors."""
    record = shard.done()
    if record is None:
        raise ConfigError(
            f"{shard.source} is not embedded in {shard.folder}, or was changed since; run 'atlas embed' again."
        )
    return {"source": record["source"]["sha256"], "vectors": record["sha256"]}


def _read_table(shard: Shard, names: list[str]) -> Float32[np.ndarray, "N P"]:
    """Return the vectors of cells of these names, NaN where there is none."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("Shards are kept as Parquet: pip install 'xtrimogene[parquet]'.") from None
    table = pq.read_table(shard.table)
    if table["cell"].to_pylist() != names:
        raise FileFormatError(f"{shard.table} holds other cells than {os.fspath(shard.source)}; embed it again.")
    column = table["vector"].combine_chunks()
    unread = column.is_null().to_numpy(zero_copy_only=False)
    found = np.full((len(names), column.type.list_size), np.nan, dtype=np.float32)
    found[~unread] = column.drop_null().flatten().to_numpy().reshape(-1, column.type.list_size)
    return found
