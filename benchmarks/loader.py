"""How many cells a second a training process reads: shuffled, in batches of 256, from memory and from files.

Cells per CPU-second of one thread, interleaved over rounds of an epoch each, the best of each; synthetic counts of all
human genes at 9 %, and one lane unless another number is named.
"gather" is the bare `matrix[rows]` of scipy on random rows: what reading from memory cannot beat.

python benchmarks/loader.py --cells 200000 --out benchmarks/results/loader.json
python benchmarks/loader.py --cells 200000 --annbatch ENV/bin/python    # beside annbatch's loader, on the same store

"bytes only" reads the store's shards without decoding them.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import torch
from annbatch_loader import annbatch_rate
from embed import describe_machine
from rich.console import Console
from rich.table import Table
from scipy import sparse
from store_read import read_bytes

from xtrimogene.config import SamplingConfig, StoreConfig
from xtrimogene.data.cell_store import CellsInFile, CellsInMemory, CellStore
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.lane_reader import LaneReader
from xtrimogene.data.packed_cells import pack_cells
from xtrimogene.data.sampler import Sampler
from xtrimogene.data.store_builder import build_store
from xtrimogene.data.store_reader import StoreReader

DENSITY, BATCH_SIZE = 0.09, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=50_000)
    parser.add_argument("--annbatch", help="a Python that has annbatch and zarrs: 3.12 at least")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = "1"  # of zarrs
    torch.set_num_threads(1)
    genes = GeneVocabulary.human()
    counts = synthetic_counts(options.cells, len(genes))
    memory = CellsInMemory(counts, np.ones((1, len(genes)), dtype=bool), np.zeros(options.cells, dtype=np.int64))
    with tempfile.TemporaryDirectory() as folder:
        stores: dict[str, CellStore] = {"memory": memory}
        for name, compression in (("h5ad", None), ("h5ad gzip", "gzip")):
            file = Path(folder) / f"{name}.h5ad"
            adata = anndata.AnnData(counts, var=pd.DataFrame(index=list(genes.symbols)))
            adata.write_h5ad(file, compression=compression)
            stores[name] = CellsInFile(file, genes, min_genes=1)
        build_store(StoreConfig(files=(str(Path(folder) / "h5ad.h5ad"),), output=f"{folder}/store.zarr", min_genes=1))
        stores["store"] = StoreReader(f"{folder}/store.zarr", genes)
        sources: dict[str, Iterator[int]] = {"gather": gather(counts)}
        sources |= {name: read(store) for name, store in stores.items()}
        sources |= {f"{name}, 8 lanes": read(stores[name], num_lanes=8) for name in ("memory", "store")}
        sources |= {f"{name}, packed": read(stores[name], finish=pack_cells) for name in ("memory", "store")}
        best = measure(sources, options.cells // BATCH_SIZE, options.rounds)
        best["store, bytes only"] = read_bytes(Path(folder) / "store.zarr")
        if options.annbatch:
            best["annbatch's loader"] = annbatch_rate(options.annbatch, f"{folder}/store.zarr", BATCH_SIZE, BATCH_SIZE)
    result = {
        "cells": options.cells,
        "genes": len(genes),
        "zarrs": find_spec("zarrs") is not None,
        "density": DENSITY,
        "batch_size": BATCH_SIZE,
        "cells_per_cpu_second": {name: round(rate) for name, rate in best.items()},
        "memory_over_gather": round(best["memory"] / best["gather"], 3),
        "targets": {"memory_over_gather": 0.85, "memory, packed": 40_000, "store": 40_000},
        "machine": describe_machine(),
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


def synthetic_counts(num_cells: int, num_genes: int) -> sparse.csr_matrix:
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(num_genes * DENSITY * 0.92), 0.4, num_cells), 200, 8_000).astype(int)
    indptr = np.concatenate([[0], lengths.cumsum()])
    indices = np.empty(indptr[-1], np.int32)
    for start, stop in zip(indptr[:-1], indptr[1:], strict=True):  # strides of random genes: sorted and distinct
        steps = random.random(stop - start) + 0.02
        indices[start:stop] = (steps.cumsum() / (steps.sum() + 0.1) * (num_genes - (stop - start))).astype(np.int32)
        indices[start:stop] += np.arange(stop - start, dtype=np.int32)
    values = random.geometric(0.6, len(indices)).astype(np.float32)
    return sparse.csr_matrix((values, indices, indptr), shape=(num_cells, num_genes))


def gather(counts: sparse.csr_matrix) -> Iterator[int]:
    random = np.random.default_rng(1)
    while True:
        yield counts[random.integers(counts.shape[0], size=BATCH_SIZE)].shape[0]


def read(
    store: CellStore, finish: Callable[[sparse.csr_matrix], object] = lambda counts: counts, num_lanes: int = 1
) -> Iterator[int]:
    config = SamplingConfig(num_lanes=num_lanes)
    sampler = Sampler([(len(store.panel), 1.0)], batch_size=BATCH_SIZE, config=config, seed=0)
    readers = [LaneReader(store, sampler, lane) for lane in range(num_lanes)]
    step = 0
    while True:
        parts = [reader.read(step)[0] for reader in readers]
        for part in parts:
            finish(part)
        step += 1
        yield sum(part.shape[0] for part in parts)


def measure(sources: dict[str, Iterator[int]], num_steps: int, num_rounds: int) -> dict[str, float]:
    best: dict[str, float] = {}
    for _ in range(num_rounds):
        for name, source in sources.items():
            began, cells = time.process_time(), 0
            for _ in range(num_steps):
                cells += next(source)
            best[name] = max(best.get(name, 0.0), cells / (time.process_time() - began))
    return best


def show(result: dict[str, Any]) -> None:
    rates, targets = result["cells_per_cpu_second"], result["targets"]
    wanted = {name: f">= {least:,}" for name, least in targets.items()}
    wanted["memory"] = f"{wanted['memory_over_gather']} of gather"
    table = Table("", "cells/CPU-s", "of gather", "target", title=f"{result['cells']:,} cells, batches of {BATCH_SIZE}")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,}", f"{rate / rates['gather']:.2f}", wanted.get(name, ""))
    Console().print(table)


if __name__ == "__main__":
    main()
