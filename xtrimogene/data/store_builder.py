"""Build a cell store from files of any size: genes resolved once, cells shuffled on disk, memory bounded.

The work is an external sort by a random key: `sorted_runs`, then `run_merge`. Everything happens in a folder beside the
store, which gets the store's name when all is done. What is there of an attempt that was stopped is taken up; the
result is the same.
Letters: N cells of a dataset, R panels, G genes.
"""

from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from jaxtyping import Shaped

from xtrimogene.config import StoreConfig
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.run_merge import RunMerge
from xtrimogene.data.sorted_runs import SourcePart, sorted_runs, write_runs
from xtrimogene.data.store_arrays import Categories, Column
from xtrimogene.data.store_format import DATASET, FORMAT, StoreRecord, is_complete, write_dataset, write_root
from xtrimogene.data.store_plan import PlannedSource, make_plan
from xtrimogene.errors import ConfigError, CountsError, FileFormatError
from xtrimogene.long_work import progress_bar

ENTRY_BYTES = 16  # of memory: blocks and their matrix take 14 for each value, a matrix and its encoded shards 12


def build_store(config: StoreConfig, *, progress: bool = True) -> Path:
    """Write the cells of all files, shuffled, and return the store's folder.

    The same call continues a build that was stopped. On disk the work takes twice the room of the store.

    Raises
    ------
    ConfigError
        The store is there already, its folder cannot be written to, or the beginning of another store is in the way.
    CountsError, FieldError, FileFormatError, GeneMatchError
        A file that will not do; nothing is left behind.
    """
    output = Path(config.output)
    if output.exists():
        raise ConfigError(f"{output} exists already; name another store, or remove it.")
    if not output.parent.is_dir():
        raise ConfigError(f"The folder {output.parent} does not exist; make it, or name another store.")
    folder = output.with_name(f"{output.name}.partial")
    try:
        _build(config, folder, progress=progress)
        rmtree(folder / "runs", ignore_errors=True)
        (folder / "store").rename(output)
        rmtree(folder)
    except CountsError:
        rmtree(folder, ignore_errors=True)
        raise
    except FileFormatError:  # of a file that was good when it was looked at: the disk or network may be to blame
        if not sorted_runs(folder / "runs"):
            rmtree(folder, ignore_errors=True)
        raise
    except OSError as error:
        remedy = "put that right and give the same command again: what is done is kept."
        raise ConfigError(f"{folder} cannot be written ({error.strerror or error}); {remedy}") from error
    return output


def _build(config: StoreConfig, folder: Path, *, progress: bool) -> None:
    genes = GeneVocabulary.human()
    sources = make_plan(config, genes, folder, progress=progress)
    store = folder / "store"
    if is_complete(store):  # and stopped just before it got its name
        return
    memory = int(config.memory * 1e9)
    with progress_bar("reading cells", sum(source.num_cells for source in sources), shown=progress) as advance:
        write_runs(folder / "runs", sources, config, genes, entries=max(1, memory // ENTRY_BYTES), advance=advance)
    runs = sorted_runs(folder / "runs")
    num_datasets = max(1, -(-sum(run.num_entries for run in runs) * ENTRY_BYTES // max(1, memory)))
    merge = RunMerge(runs, num_datasets, len(genes))
    parts = [merge.parts[source] for source in range(len(sources))]
    num_cells = sum(sum(part.num_kept) for part in parts)
    if not num_cells:
        raise CountsError(f"No cell has {config.min_genes} expressed genes; lower min_genes or give other files.")
    table = _CellTable(config, sources, parts)
    store.mkdir(exist_ok=True)
    with progress_bar("writing datasets", num_datasets, shown=progress) as advance:
        for number in range(num_datasets):
            _write_dataset(store, number, merge, table, genes)
            advance(1)
    record = StoreRecord(
        format=FORMAT,
        num_cells=num_cells,
        genes_sha256=genes.sha256,
        seed=config.seed,
        min_genes=config.min_genes,
        sources=tuple(_describe(source, part, config) for source, part in zip(sources, parts, strict=True)),
    )
    write_root(store, record, table.measured, genes)


def _write_dataset(store: Path, number: int, merge: RunMerge, table: "_CellTable", genes: GeneVocabulary) -> None:
    finished, unfinished = store / f"{DATASET}{number}", store.with_name(".dataset")
    if finished.exists():
        return
    cells, matrix = merge.dataset(number)
    if not len(cells):  # of few cells, a part of the key range may have none
        return
    rmtree(unfinished, ignore_errors=True)
    write_dataset(unfinished, matrix, table.names(cells), table.columns(cells), genes)
    unfinished.rename(finished)


class _CellTable:
    """The columns of obs, from what a run keeps of its cells; codes of one source become those of all."""

    def __init__(self, config: StoreConfig, sources: Sequence[PlannedSource], parts: Sequence[SourcePart]) -> None:
        self.files = [source.name for source in sources]
        self.texts = {"donor": [part.donors for part in parts]} if config.donor_key else {}
        self.texts |= {"batch": [part.batches for part in parts]} if config.batch_key else {}
        used = [np.array(part.num_kept) > 0 for part in parts]
        self.measured = np.concatenate([part.measured[own] for part, own in zip(parts, used, strict=True)])
        self.panels = np.concatenate(used).cumsum() - 1  # of all batches of all files; one without a cell has none
        self.first = np.cumsum([0, *(len(own) for own in used)])

    def names(self, cells: Shaped[np.ndarray, "N"]) -> list[str]:
        return [f"{source}-{row}" for source, row in zip(cells["source"].tolist(), cells["row"].tolist(), strict=True)]

    def columns(self, cells: Shaped[np.ndarray, "N"]) -> dict[str, Column]:
        columns: dict[str, Column] = {
            "dataset": Categories(cells["source"], self.files),
            "row": cells["row"],
        }
        for name, of_source in self.texts.items():
            categories = sorted(set().union(*of_source))
            code = {text: number for number, text in enumerate(categories)}
            first = np.cumsum([0, *map(len, of_source)])
            codes = np.array([code[text] for texts in of_source for text in texts])
            columns[name] = Categories(codes[first[cells["source"]] + cells[name]], categories)
        columns["panel"] = self.panels[self.first[cells["source"]] + cells["batch"]].astype(np.int32)
        return columns | {name: cells[name] for name in ("num_genes", "total_counts", "cell_hash")}


def _describe(source: PlannedSource, part: SourcePart, config: StoreConfig) -> dict[str, Any]:
    record = {
        "file": source.name,
        "cells": sum(part.num_kept),
        "cells_left_out": source.num_cells - sum(part.num_kept),
        "genes_measured": int(part.measured.any(axis=0).sum()),
        "counts_matched": round(part.matched_counts / max(1.0, part.total_counts), 4),
        "sha256": source.sha256,
    }
    if config.donor_key is not None:
        record |= {"donors": len(part.donors)}
    if config.batch_key is not None:
        record |= {"joined_by": config.batch_key, "batches": int((np.array(part.num_kept) > 0).sum())}
    return record
