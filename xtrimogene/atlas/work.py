"""What is done with a shard: a file of cells in, a table of one row a cell out. Knows of no other shard."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import Pool, require
from xtrimogene.data.file_hashes import content_sha256
from xtrimogene.data.read_depth import ReadDepth
from xtrimogene.errors import ConfigError, MissingExtraError
from xtrimogene.inference import Inference, vector_width
from xtrimogene.tasks.annotation.annotator import check_options
from xtrimogene.tasks.annotation.annotator_folder import load_annotator
from xtrimogene.tl.annotation import annotate
from xtrimogene.tl.answer_columns import ALWAYS, NOT_ALWAYS
from xtrimogene.tl.embedding import read_vectors, require_model

VectorType = Literal["float16", "float32"]
Table: TypeAlias = tuple[dict[str, Any], int]  # columns, and how many cells could not be read


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedWork:
    """Vectors of cells, as `xtrimogene.tl.embed`: columns ``cell`` and ``vector``, null where nothing was read.

    ``precision`` is that of the numbers written.
    """

    model: str = "demo"
    pool: Pool | None = None
    read_depth: str | None = None
    precision: VectorType = "float16"
    min_genes: int = 200

    def __post_init__(self) -> None:
        require(self.precision in ("float16", "float32"), f"precision={self.precision!r} is no float16 or float32.")
        if self.read_depth is not None:
            ReadDepth.parse(self.read_depth)

    def facts(self, model: PretrainedModel) -> dict[str, Any]:
        """Return what an output depends on: options, and the model's weights.

        Raises
        ------
        ConfigError
            The model has no such pool.
        """
        vector_width(model.config, self.pool)
        return {"work": "embed", **asdict(self), "model": model.sha256}

    def prepare(self, model: PretrainedModel, device: str | None) -> Callable[[Path], Table]:
        """Return what does a shard with this model, which is ``self.model`` loaded."""
        inference = Inference(model, device=device)

        def embed(source: Path) -> Table:
            found = read_vectors(
                source,
                inference,
                model,
                pool=self.pool,
                read_depth=self.read_depth,
                min_genes=self.min_genes,
                progress=False,
            )
            with np.errstate(over="ignore"):
                vectors = found.embedding.astype(self.precision)
            if np.isinf(vectors).any():
                raise ConfigError(f"Vectors of {source} are too large for {self.precision}; ask for float32.")
            return {"cell": found.obs.index.astype(str).tolist(), "vector": vectors}, found.num_unread

        return embed


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotateWork:
    """Labels of cells, as `xtrimogene.tl.annotate` with an annotator that was kept; each shard is aligned by itself."""

    annotator: str
    model: str = "demo"
    error_rate: float = 0.1
    novelty_rate: float = 0.05
    min_genes: int = 200

    def __post_init__(self) -> None:
        check_options(error_rate=self.error_rate, novelty_rate=self.novelty_rate)

    def facts(self, model: PretrainedModel) -> dict[str, Any]:
        """Return what an output depends on: options, the model's weights, and the annotator.

        Raises
        ------
        CheckpointError
            The annotator cannot be loaded, or is of another model.
        """
        made = load_annotator(self.annotator).card["model"]
        require_model(made, model, f"{self.annotator!r} was fitted on", "fit again")
        return {
            "work": "annotate",
            **asdict(self),
            "annotator": content_sha256(Path(self.annotator)),
            "model": model.sha256,
        }

    def prepare(self, model: PretrainedModel, device: str | None) -> Callable[[Path], Table]:
        """Return what does a shard with this model, which is ``self.model`` loaded."""
        annotator = load_annotator(self.annotator)

        def label(source: Path) -> Table:
            cells = annotate(
                os.fspath(source),
                annotator=annotator,
                model=model,
                error_rate=self.error_rate,
                novelty_rate=self.novelty_rate,
                min_genes=self.min_genes,
                device=device,
                progress=False,
            )
            names = [name for name in (*ALWAYS, *NOT_ALWAYS) if f"xtrimogene_{name}" in cells.obs]
            columns = {name: _plain(cells.obs[f"xtrimogene_{name}"]) for name in names}
            unread = int(cells.obs["xtrimogene_label"].isna().sum())
            return {"cell": cells.obs_names.astype(str).tolist(), **columns}, unread

        return label


Work: TypeAlias = EmbedWork | AnnotateWork


def write_table(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns as Parquet; a vector that is no number is null.

    Raises
    ------
    MissingExtraError
        The extra ``parquet`` is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("Shards are written as Parquet: pip install 'xtrimogene[parquet]'.") from None
    arrays: dict[str, Any] = {}
    for name, column in columns.items():
        if isinstance(column, np.ndarray) and column.ndim == 2:
            unread = pa.array(~np.isfinite(column).all(axis=1))
            flat = pa.array(np.ascontiguousarray(column).ravel())
            arrays[name] = pa.FixedSizeListArray.from_arrays(flat, column.shape[1], mask=unread)
        else:
            arrays[name] = pa.array(column)
    pq.write_table(pa.table(arrays), path, compression="zstd", row_group_size=65_536)


def _plain(column: pd.Series) -> Any:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return [None if code < 0 else column.cat.categories[code] for code in column.cat.codes]
    return column.to_numpy()
