"""The layout of a cell store: annbatch's collection of zarr groups, with what is known of all cells in its root.

STORE.zarr
  zarr.json     attributes: annbatch's mark, and "xtrimogene": a `StoreRecord`, written last
  var           the genes, in order
  measured      panels x genes: which genes each panel measured
  dataset_0 ..  an AnnData each: X (whole counts, CSR), obs, var
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from jaxtyping import Bool

from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.store_arrays import Column, write_array, write_table
from xtrimogene.data.store_matrix import MatrixInMaking
from xtrimogene.errors import FileFormatError

FORMAT = 1
DATASET = "dataset_"
_COLLECTION = {"encoding-type": "annbatch-preshuffled", "encoding-version": "0.1.0"}
_RECORD = "xtrimogene"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreRecord:
    """What went into a store; ``sources`` says, file by file, what was read."""

    format: int
    num_cells: int
    genes_sha256: str
    seed: int
    min_genes: int
    sources: tuple[dict[str, Any], ...]

    @classmethod
    def find(cls, attributes: Mapping[str, Any], path: Path) -> "StoreRecord":
        """Read the record among the attributes of a root.

        Raises
        ------
        FileFormatError
            There is none, or one of another version of the format.
        """
        values = attributes.get(_RECORD)
        if not isinstance(values, dict) or "format" not in values:
            raise FileFormatError(f"{path} is a zarr store but no cell store; make one with `xtrimogene store build`.")
        if values["format"] != FORMAT:
            found = f"{path} is a cell store of format {str(values['format'])[:20]!r}"
            raise FileFormatError(f"{found} and this version reads {FORMAT}; build it again.")
        kinds = {"format": int, "num_cells": int, "genes_sha256": str, "seed": int, "min_genes": int, "sources": list}
        good = set(values) == set(kinds) and all(type(values[name]) is kind for name, kind in kinds.items())
        if not good or not all(isinstance(source, dict) for source in values["sources"]):
            raise FileFormatError(f"{path} has a record that is not a cell store's; build the store again.")
        return cls(**{**values, "sources": tuple(values["sources"])})


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a folder calls itself a cell store; whether it is a good one, reading it tells."""
    try:
        root = json.loads((Path(path) / "zarr.json").read_bytes())
        return _RECORD in root["attributes"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def write_dataset(
    folder: Path,
    matrix: MatrixInMaking,
    names: list[str],
    obs: Mapping[str, Column],
    genes: GeneVocabulary,
) -> None:
    import zarr

    encoding = {"encoding-type": "anndata", "encoding-version": "0.1.0"}
    group = zarr.create_group(folder, zarr_format=3, attributes=encoding)
    matrix.write(group)
    write_table(group, "obs", names, obs)
    write_table(group, "var", genes.symbols, _gene_columns(genes))


def write_root(folder: Path, record: StoreRecord, measured: Bool[np.ndarray, "R G"], genes: GeneVocabulary) -> None:
    """Turn a folder with datasets into a store."""
    import zarr

    for path in folder.iterdir():
        if not path.name.startswith(DATASET):  # of an attempt that was stopped here
            rmtree(path) if path.is_dir() else path.unlink()
    root = zarr.create_group(folder, zarr_format=3)
    write_table(root, "var", genes.symbols, _gene_columns(genes))
    write_array(root, "measured", measured, len(measured))
    root.attrs.update({**_COLLECTION, _RECORD: asdict(record)})


def is_complete(folder: Path) -> bool:
    """Whether `write_root` has ended in this folder."""
    import zarr

    return (folder / "zarr.json").is_file() and _RECORD in zarr.open_group(folder, mode="r").attrs


def _gene_columns(genes: GeneVocabulary) -> dict[str, Column]:
    return {"ensembl_id": np.array(genes.ensembl_ids, dtype=object)}
